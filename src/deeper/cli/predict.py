"""``deeper predict images=FILE|DIRECTORY weights=DIRECTORY``: the likeliest classes of pictures."""

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import track
from rich.table import Table

from deeper.augment.ops import Normalise
from deeper.cli import device, stored
from deeper.cli.outputs import check_file
from deeper.data.pictures import picture_files, read_picture
from deeper.errors import UserError

LISTED = 5
PHOTOGRAPH = 96  # pixels: nets for at least so many look at photographs
PRINTED = 20  # pictures; all are in the file


def run(config: DictConfig) -> None:
    """Print and save the likeliest classes of each picture."""
    console = Console(width=100, highlight=False)
    check_file(Path(config.out), "out", make=True)
    path, paths = Path(config.weights), picture_files(Path(config.images))
    device.start_jax(stored.config_of(path, "weights").train.cpu_kernels)
    of_run = stored.open_stored(path, config.checkpoint, "weights")
    data = of_run.config.data
    shape = tuple(data.image_shape)
    crop = config.crop or (0.875 if min(shape[:2]) >= PHOTOGRAPH else 1.0)
    names = stored.class_names(path, of_run.config)
    normalise = Normalise(tuple(data.mean), tuple(data.std))

    @jax.jit
    def answer(variables, images):
        logits: Any = of_run.model.apply(variables, normalise(images), train=False)
        return logits, jax.nn.softmax(logits)

    # A last, partial batch is filled up, so that one program serves all.
    size = min(config.batch_size, len(paths))
    rows: list[tuple[str, int, str, float]] = []
    unread = []
    for first in track(
        range(0, len(paths), size), "predict", console=Console(stderr=True), transient=True
    ):
        images = np.zeros((size, *shape), np.uint8)
        read: list[Path] = []
        for file in paths[first : first + size]:
            try:
                images[len(read)] = read_picture(file, shape, crop)
            except UserError as error:
                unread.append(str(error))
                continue
            read.append(file)
        logits, shares = (np.asarray(part) for part in answer(of_run.variables, images))
        for i, file in enumerate(read):
            # By logits: of a very sure net all other probabilities are zero.
            for rank, number in enumerate(np.argsort(-logits[i], kind="stable")[:LISTED], 1):
                rows.append((str(file), rank, names[number], float(shares[i, number])))
    _print(console, rows)
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("file", "rank", "class", "probability"))
        writer.writerows((f, rank, name, f"{share:.6f}") for f, rank, name, share in rows)
    count = len({row[0] for row in rows})
    console.print(f"{count:,} picture{'s' * (count != 1)} -> {out}")
    if unread:
        raise UserError("\n".join(["Some files were left out.", *unread]))


def _print(console: Console, rows: list[tuple[str, int, str, float]]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("file", "class", "probability"):
        table.add_column(heading, justify="right" if heading == "probability" else "left")
    for file, rank, name, share in rows[: PRINTED * LISTED]:
        table.add_row(Path(file).name if rank == 1 else "", name, f"{100 * share:.1f} %")
    console.print(table)
    if len(rows) > PRINTED * LISTED:
        console.print(f"... and {len(rows) // LISTED - PRINTED:,} more pictures")
