"""Output of ``deeper predict``: the likeliest classes of pictures, or the boxes found in them."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from deeper.data.image_files import LeftOut, describe_left_out
from deeper.run.detect import SURE, Found
from deeper.run.predict import Predictions

PRINTED = 20  # number of printed pictures; the file has all


def print_predictions(
    answers: Predictions, out: Path, left_out: LeftOut, console: Console, *, pictures: bool
) -> None:
    """Print the likeliest classes, and what was written and how.

    Args:
        answers: of the net.
        out: the file that has all of them.
        left_out: reason -> files that are no pictures.
        console: where to print.
        pictures: whether the net was asked about files of pictures, which are shown by name.
    """
    _print_classes(answers, console, by_name=pictures)
    count, what = len(answers), "picture" if pictures else "example"
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


def print_found(found: Found, out: Path, drawn: Path, left_out: LeftOut, console: Console) -> None:
    """Print what a detector has found, and what was written.

    Args:
        found: the boxes.
        out: the file that has all of them.
        drawn: the directory of the photographs with boxes.
        left_out: reason -> files that are no pictures.
        console: where to print.
    """
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


def _print_classes(answers: Predictions, console: Console, *, by_name: bool) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("file", "class", "probability"):
        right = heading == "probability"
        justify: Any = "right" if right else "left"
        table.add_column(heading, justify=justify, no_wrap=right, overflow="fold")
    shown = zip(answers.files[:PRINTED], answers.top(), strict=False)
    for file, top in shown:
        for rank, (name, share) in enumerate(top):
            first = Path(file).name if by_name else file
            table.add_row(first if rank == 0 else "", name, f"{100 * share:.1f} %")
    console.print(table)
    if len(answers) > PRINTED:
        console.print(f"... and {len(answers) - PRINTED:,} more")
