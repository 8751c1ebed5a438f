"""``deeper predict images=PATH|inputs=TEXT weights=DIRECTORY``: the most probable classes.

Of a detector: the boxes that it finds.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deeper.cli.inputs import given_inputs
from deeper.cli.output_files import check_directory, check_file
from deeper.data.image_files import LeftOut, describe_left_out, picture_files
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.record.atomic_files import to_json, write_whole
from deeper.run.detect import SURE, detect_files, detects
from deeper.run.predict import LISTED, predict_files, predict_given
from deeper.study.tables import cell

QUALITY = 92  # of photographs with boxes, JPEG
PRINTED = 20  # number of printed pictures; the file has all
Rows = list[tuple[str, int, str, float]]  # columns: file, rank, class, probability


def run(config: DictConfig) -> None:
    """Print and write the most probable classes of each picture, or a detector's boxes."""
    console, out = open_console(), Path(config.out or "predictions.csv")
    check_file(out, "out", make=True)
    left_out: LeftOut = {}
    if (config.images is None) == (config.inputs is None):
        raise UserError(
            "Say what the net is asked about: images=PATH, or inputs=PATH or TEXT where it was "
            "trained on sequences."
        )
    files = [] if config.images is None else picture_files(Path(config.images), left_out)
    if files and detects(Path(config.weights)):
        _detect(config, files, left_out)
        return
    with progress_bar(open_console(stderr=True)) as progress:
        if config.inputs is not None:
            answers = predict_given(
                Path(config.weights),
                given_inputs(str(config.inputs)),
                checkpoint=config.checkpoint,
                batch_size=config.batch_size,
                progress=progress,
            )
        else:
            answers = predict_files(
                Path(config.weights),
                files,
                checkpoint=config.checkpoint,
                crop=config.crop,
                exif=config.exif,
                batch_size=config.batch_size,
                data_dir=config.data.dir,
                progress=progress,
            )
    rows = [
        (file, rank, name, share)
        for file, top in zip(answers.files, answers.top(), strict=True)
        for rank, (name, share) in enumerate(top, 1)
    ]
    _print(console, rows, by_name=config.inputs is None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table:
        writer = csv.writer(table)
        writer.writerow(("file", "rank", "class", "probability"))
        writer.writerows(
            (cell(file), rank, cell(name), f"{share:.6f}") for file, rank, name, share in rows
        )
    count, what = len(answers), "picture" if config.inputs is None else "example"
    console.print(f"{count:,} {what}{'s' * (count != 1)} -> {out}", soft_wrap=True)
    for words, changed in answers.changed.items():
        console.print(f"{changed:,} {words}", soft_wrap=True, markup=False)
    if left_out:
        console.print(describe_left_out(left_out), soft_wrap=True)
    if answers.unturned:
        console.print(
            f"{answers.unturned:,} of them {'is' if answers.unturned == 1 else 'are'} shown as "
            "stored, though an EXIF entry says to turn: this net's own images are not turned "
            "either. exif=apply turns."
        )
    if answers.left_out:
        given = len(files) or count + len(answers.left_out)
        head = (
            f"{len(answers.left_out):,} of {given:,} {'files' if files else 'examples'} left out:"
        )
        raise UserError("\n".join([head, *answers.left_out]))


def _detect(config: DictConfig, files: Sequence[Path], left_out: LeftOut) -> None:
    """Print and write what a detector finds, and draw it on the photographs."""
    console, out = open_console(), Path(config.out or "predictions.json")
    check_file(out, "out", (".json",), make=True)
    drawn = out.with_suffix("")
    check_directory(drawn, "out")
    for key in ("crop", "exif"):
        if config[key] is not None:
            raise UserError(
                f"{key}={config[key]}: a detector sees whole photographs, upright; leave it out."
            )
    with progress_bar(open_console(stderr=True)) as progress:
        found = detect_files(
            Path(config.weights),
            files,
            checkpoint=config.checkpoint,
            batch_size=config.batch_size,
            progress=progress,
        )
        drawn.mkdir(parents=True, exist_ok=True)
        for number, file in enumerate(found.files):
            progress("draw", number, len(found))
            # Files of one name may lie in several folders.
            picture = drawn / f"{number + 1:0{len(str(len(found)))}d}-{Path(file).stem}.jpg"
            Image.fromarray(found.draw(number)).save(picture, quality=QUALITY, subsampling=0)
    write_whole(out, to_json(found.records(), indent=1))
    console.print(repr(found), soft_wrap=True, markup=False)
    count = len(found)
    console.print(
        f"{count:,} picture{'s' * (count != 1)} -> {out}, boxes of at least {SURE:g} drawn in "
        f"{drawn}",
        soft_wrap=True,
        markup=False,
    )
    if left_out:
        console.print(describe_left_out(left_out), soft_wrap=True, markup=False)
    if found.left_out:
        head = f"{len(found.left_out):,} of {len(files):,} files left out:"
        raise UserError("\n".join([head, *found.left_out]))


def _print(console: Console, rows: Rows, *, by_name: bool) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("file", "class", "probability"):
        right = heading == "probability"
        justify: Any = "right" if right else "left"
        table.add_column(heading, justify=justify, no_wrap=right, overflow="fold")
    for file, rank, name, share in rows[: PRINTED * LISTED]:
        shown = Path(file).name if by_name else file
        table.add_row(escape(shown) if rank == 1 else "", name, f"{100 * share:.1f} %")
    console.print(table)
    if len(rows) > PRINTED * LISTED:
        console.print(f"... and {len(rows) // LISTED - PRINTED:,} more")
