"""Draws a study's committed figures again from its committed ``results.csv``, without its runs.

    python experiments/redraw.py experiments/uda uda_fashion
    python experiments/redraw.py experiments/transfer/lab transfer_imagenet data.name=lab

For changes in how figures look. Training curves need the runs' rows, and are left as they are; a
number has the six digits of the table.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

from deeper.config.command_line import override
from deeper.config.compose import configure
from deeper.plotting import STYLE
from deeper.record.arm_names import IN_LABEL, arm_name
from deeper.record.schema import RunRecord
from deeper.study.definition import Study
from deeper.study.figures import draw_all, save
from deeper.study.read_runs import Collection
from deeper.study.tables import COLUMNS

NOT_HERE = ("curves", "bars")  # of the runs' rows, and of published numbers alone
TEXTS = ("label", "config_hash", "git_commit")


def value_of(column: str, text: str) -> Any:
    """Return the value of a cell of ``results.csv``."""
    text = text.removeprefix("'")
    if text in ("", "True", "False"):
        return {"": None, "True": True, "False": False}[text]
    if column in TEXTS:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and "." not in text else number


def run_of(row: dict[str, str], study: Study) -> RunRecord:
    """Return the run of a row, as far as the table tells of it."""
    values = {column: value_of(column, text) for column, text in row.items()}
    metrics = {key: value for key, value in values.items() if "/" in key and value is not None}
    config: dict[str, Any] = {"label": values["label"], "seed": values["seed"]}
    settings = [key for key in row if key not in COLUMNS]
    for key in settings:
        *path, last = key.split(".")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[last] = values[key]
    result = {key: values[key] for key in COLUMNS if "/" not in key and key not in config}
    result["overrides"] = [
        override(key, row[key].removeprefix("'")) for key in settings if row[key]
    ]
    rest = {key: values[key] for key in study.arms if key in settings and key not in IN_LABEL}
    arm = arm_name(values["label"], rest)
    run = RunRecord(Path(arm), values["status"], config, {**result, "metrics": metrics}, arm=arm)
    if study.x == "stages":  # of transfer by layer: a column names the last one
        run.result["stages"] = int(config["transfer"]["truncate_at"].removeprefix("stage"))
    return run


def redraw(directory: Path, study: Study) -> list[Path]:
    """Draw the figures of a directory that its table has the numbers of; return their paths."""
    with (directory / "results.csv").open(encoding="utf-8", newline="") as file:
        runs = [run_of(row, study) for row in csv.DictReader(file)]
    collection = Collection(directory, study, "", runs, [])
    figures = directory / "figures"
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        drawn = {name: one for name, one in draw_all(collection).items() if name not in NOT_HERE}
        return [save(figure, figures / name) for name, figure in drawn.items() if figure]


def main(directory: str, name: str, *words: str) -> None:
    """Draw the figures of a study again."""
    config = configure(override("study", name), *words).plain()
    for path in redraw(Path(directory), Study.of(config["study"])):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
