"""``deeper prepare data=NAME``: make a data set ready."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.run_keys import data_section
from deeper.config.data_sections import OwnDataset
from deeper.data.dataset import open_dataset
from deeper.display.prepared import print_prepared
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.run.dataset import open_data, view_of
from deeper.run.prepare_data import prepare_data


def run(config: DictConfig) -> None:
    """Prepare a data set, decode it once, and say what is there."""
    # The file is named because it is written to while TFDS's own output is held back.
    console = open_console(file=sys.stdout)
    data = data_section(config, classes=None)
    with progress_bar(console) as progress:
        prepared = prepare_data(
            data, layout=config.layout, shorter_side=config.shorter_side, progress=progress
        )
        for sentence in prepared.sentences:
            print(sentence)
        dataset = (
            open_data(data, progress)
            if isinstance(data, OwnDataset)
            else open_dataset(data.name, Path(data.dir), progress, view_of(data))
        )
    print_prepared(data, prepared, dataset, console)
