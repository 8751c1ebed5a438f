"""``deeper features run=DIRECTORY``: features of a data set, and probes on them."""

from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.output_files import check_file
from deeper.cli.run_keys import moved_to, names_another
from deeper.config.compose import plain_values
from deeper.display.features import print_features
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.run.features import features_of_run


def run(config: DictConfig) -> None:
    """Compute the features, write them if requested, and print the errors of the probes."""
    console = open_console()
    path = Path(config.run)
    out = None if config.out is None else Path(config.out)
    if out is not None:
        check_file(out, "out", (".npz",))
    other = plain_values(config)["data"] if names_another(config) else None
    with progress_bar(console) as progress:
        features = features_of_run(
            path,
            layer=config.layer,
            checkpoint=config.checkpoint,
            examples=config.examples,
            draw=config.draw,
            other=other,
            batch_size=config.batch_size,
            data_dir=moved_to(config),
            progress=progress,
        )
    if out is not None:
        features.write(out, path)
    print_features(features, path, console)
    if out is not None:
        console.print(f"-> {out}", soft_wrap=True)
