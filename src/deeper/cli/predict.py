"""``deeper predict images=FILE|DIRECTORY weights=DIRECTORY``: the likeliest classes of pictures."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from deeper.augment.pipeline import Normalise
from deeper.cli.live_display import bar
from deeper.cli.output_files import check_file
from deeper.cli.terminal import open_console
from deeper.data.image_files import (
    LeftOut,
    describe_left_out,
    is_turned,
    picture_files,
    read_picture,
)
from deeper.errors import UserError
from deeper.run import device, load
from deeper.run.dataset import evaluation_view, exif_of
from deeper.study.tables import cell

LISTED = 5
PRINTED = 20  # pictures; all are in the file


def run(config: DictConfig) -> None:
    """Print and save the likeliest classes of each picture."""
    console = open_console()
    check_file(Path(config.out), "out", make=True)
    left_out: LeftOut = {}
    path, paths = Path(config.weights), picture_files(Path(config.images), left_out)
    device.start_jax(load.config_of(path, "weights").train.cpu_kernels)
    of_run = load.open_stored(path, config.checkpoint, "weights", config.data.dir)
    data = of_run.config.data
    shape = tuple(data.image_shape)
    view = evaluation_view(data, config.crop)
    if config.exif is not None:
        view = replace(view, exif=exif_of(config, "exif"))
    names = load.class_names(path, of_run.config)
    normalise = Normalise(tuple(data.mean), tuple(data.std))

    @jax.jit
    def answer(variables, images):
        logits: Any = of_run.model.apply(variables, normalise(images), train=False)
        return logits, jax.nn.softmax(logits)

    # A last, partial batch is filled up, so that one program serves all.
    size = min(config.batch_size, len(paths))
    rows: list[tuple[str, int, str, float]] = []
    unread: list[str] = []
    unturned = 0
    for first in _shown(range(0, len(paths), size)):
        images = np.zeros((size, *shape), np.uint8)
        read: list[Path] = []
        for file in paths[first : first + size]:
            try:
                images[len(read)] = read_picture(file, view)
            except UserError as error:
                unread.append(str(error))
                continue
            read.append(file)
            unturned += not view.exif and is_turned(file)
        logits, shares = (np.asarray(part) for part in answer(of_run.variables, images))
        for i, file in enumerate(read):
            if not np.isfinite(shares[i]).all():
                unread.append(f"{file}: the net answers NaN or infinity.")
                continue
            # By logits: of a very sure net all other probabilities are zero.
            for rank, number in enumerate(np.argsort(-logits[i], kind="stable")[:LISTED], 1):
                rows.append((str(file), rank, names[number], float(shares[i, number])))
    _print(console, rows)
    out = Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table:
        writer = csv.writer(table)
        writer.writerow(("file", "rank", "class", "probability"))
        writer.writerows(
            (cell(f), rank, cell(name), f"{share:.6f}") for f, rank, name, share in rows
        )
    count = len({row[0] for row in rows})
    console.print(f"{count:,} picture{'s' * (count != 1)} -> {out}", soft_wrap=True)
    if left_out:
        console.print(describe_left_out(left_out), soft_wrap=True)
    if unturned:
        console.print(
            f"{unturned:,} of them {'is' if unturned == 1 else 'are'} shown as stored, though an "
            "EXIF entry says to turn: this net's own images are not turned either. exif=apply "
            "turns."
        )
    if unread:
        raise UserError("\n".join([f"{len(unread):,} of {len(paths):,} files left out:", *unread]))


def _shown(numbers: range) -> Iterator[int]:
    """Yield numbers, with a bar beside."""
    with bar(open_console(stderr=True)) as progress:
        task = progress.add_task("predict", total=numbers.stop)
        for number in numbers:
            progress.update(task, completed=number)
            yield number


def _print(console: Console, rows: list[tuple[str, int, str, float]]) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("file", "class", "probability"):
        right = heading == "probability"
        justify: Any = "right" if right else "left"
        table.add_column(heading, justify=justify, no_wrap=right, overflow="fold")
    for file, rank, name, share in rows[: PRINTED * LISTED]:
        table.add_row(Path(file).name if rank == 1 else "", name, f"{100 * share:.1f} %")
    console.print(table)
    if len(rows) > PRINTED * LISTED:
        console.print(f"... and {len(rows) // LISTED - PRINTED:,} more pictures")
