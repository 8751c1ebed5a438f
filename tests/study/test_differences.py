"""A study with a baseline: paired differences and the step time."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deeper.plotting import COLOURS, SOFT
from deeper.study import tables
from deeper.study.baseline import cells, difference, difference_figure, overfitting_figure
from deeper.study.comparability import warnings
from deeper.study.means import mean_of
from deeper.study.read_runs import collect
from deeper.study.report import make_report
from tests.study.conftest import write_run

ERRORS = {
    ("none", 550): (20.0, 21.0, 19.0),
    ("crop_flip", 550): (17.0, 18.5, 16.5),
    ("cutout", 550): (18.0, 19.0, 17.5),
    ("none", 55000): (8.0, 8.2, 7.9),
    ("crop_flip", 55000): (7.0, 7.1, 7.2),
    ("cutout", 55000): (6.5, 6.4, 6.6),
}
DEFINITION = {
    "name": "augment_test",
    "claim": "The fewer the images, the more augmentation is worth.",
    "x": "train_images",
    "x_label": "training images",
    "line": "augment",
    "line_names": {"crop_flip": "crop + flip"},
    "base": "crop_flip",
    "arms": {"augment": ["none", "crop_flip", "cutout"], "data.examples": [550, 55000]},
    "seeds": [0, 1, 2],
}


@pytest.fixture
def study(tmp_path):
    for (augment, size), errors in ERRORS.items():
        for seed, error in enumerate(errors):
            path = write_run(
                tmp_path, "resnet20", seed, error, study=DEFINITION, depth=20, residual=True,
                name=f"{size}{augment}"[:12], overrides=f"augment={augment} data.examples={size}",
            )  # fmt: skip
            result = path / "result.json"
            facts = json.loads(result.read_text()) | {"augment": augment, "train_images": size}
            result.write_text(json.dumps(facts))
    return tmp_path


def test_differences_are_between_runs_of_one_seed(study):
    found = cells(collect(study))
    gap = difference(found[550]["cutout"], found[550]["crop_flip"], "test/error")
    assert gap == mean_of([1.0, 0.5, 1.0])
    missing = dict(list(found[550]["crop_flip"].items())[:2])
    assert difference(found[550]["cutout"], missing, "test/error").n == 2


def test_the_table_has_a_row_for_each_size_and_line_the_best_first(study):
    collection = collect(study)
    rows = tables.summary_rows(collection)
    assert tables.headings(collection)[4] == "difference to crop + flip"
    assert [row[:2] for row in rows] == [
        ("550", "crop + flip"), ("550", "cutout"), ("550", "none"),
        ("55,000", "cutout"), ("55,000", "crop + flip"), ("55,000", "none"),
    ]  # fmt: skip
    assert rows[0][4] == ""
    assert rows[1][4] == "+0.83 (+0.50 to +1.00)"
    assert rows[3][4] == "−0.60 (−0.70 to −0.50)"


def test_of_a_metric_of_which_more_is_better_the_most_is_first(study):
    collection = collect(study)
    for run in collection.finished:
        run.result |= {"metric": "r2", "less_is_better": False}
        run.result["metrics"]["test/r2"] = 100 - run.result["metrics"]["test/error"]
    of_r2 = replace(
        collection, study=replace(collection.study, metric="test/r2", metric_label="R2")
    )
    assert [row[:2] for row in tables.summary_rows(of_r2)] == [
        row[:2] for row in tables.summary_rows(collection)
    ]
    axes = [difference_figure(one).axes[0] for one in (of_r2, collection)]
    labels = [[label.get_text() for label in one.get_yticklabels()] for one in axes]
    assert labels[0] == labels[1]
    assert overfitting_figure(of_r2) is None  # none was taken on the training split


def test_the_page_holds_the_figures_of_such_a_study(study):
    report = make_report(study)
    assert {*report.figures} == {"error", "difference", "overfitting"}
    page = report.page.read_text()
    assert "Difference to crop + flip" in page
    assert np.all([path.with_suffix(".png").is_file() for path in report.figures.values()])


def test_settings_that_follow_the_seed_or_the_arm_are_no_difference(tmp_path):
    definition = DEFINITION | {"line": "arm", "base": "a", "arms": {"arm": ["a", "b"]}}
    for seed in (0, 1):
        for arm, weight in (("a", 0.0), ("b", 1.0)):
            write_run(
                tmp_path, "resnet20", seed, 10.0, study=definition, name=f"{arm}123",
                overrides=f"arm={arm}", facts={"arm": arm, "train_images": 550},
                config={"data": {"draw": seed}, "train": {"weight": weight}, "odd": weight + seed},
            )  # fmt: skip
    assert [line for line in warnings(collect(tmp_path)) if "no arm varies" in line] == [
        "The runs differ in odd, which no arm varies: 0.0 (1), 1.0 (1)."
    ]


def colours_of(root, errors):
    """Return the colours of the means in the difference figure of a study of five seeds."""
    definition = DEFINITION | {"seeds": [0, 1, 2, 3, 4]}
    for augment, values in errors.items():
        for seed, error in enumerate(values):
            path = write_run(
                root, "resnet20", seed, error, study=definition, depth=20, name=augment[:8],
                overrides=f"augment={augment} data.examples=550",
            )  # fmt: skip
            result = path / "result.json"
            facts = json.loads(result.read_text()) | {"augment": augment, "train_images": 550}
            result.write_text(json.dumps(facts))
    lines = difference_figure(collect(root)).axes[0].lines
    return [line.get_color() for line in lines if line.get_marker() == "o"]


def test_colours_are_of_intervals_that_hold_all_at_once(tmp_path):
    # Half the interval of the differences is 0.79 alone and 0.99 as one of two.
    wide = [9.1 + e for e in (-0.8, -0.4, 0.0, 0.4, 0.8)]
    errors = {"crop_flip": [10.0] * 5, "cutout": wide}
    assert colours_of(tmp_path / "one", errors) == [COLOURS[0]]
    errors["none"] = [14.0, 14.1, 14.2, 14.0, 14.1]
    assert colours_of(tmp_path / "two", errors) == [COLOURS[1], SOFT]


def test_differences_without_spread_or_of_few_seeds_are_grey(study, tmp_path):
    assert colours_of(tmp_path / "x", {"crop_flip": [10.0] * 5, "cutout": [9.0] * 5}) == [SOFT]
    drawn = difference_figure(collect(study)).axes[0].lines
    runs = [line for line in drawn if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in runs] == [3, 3]
    assert {line.get_color() for line in runs} == {SOFT}
