"""Comparison of measured with published numbers, and the chart of published ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from deeper.plotting import COLOURS
from deeper.study.curves import curves_figure
from deeper.study.figures import lines_of
from deeper.study.published import SAME, bars_figure, comparison_rows
from deeper.study.read_runs import collect
from deeper.study.report import make_report
from deeper.study.tables import published
from tests.study.conftest import DEFINITION, write_run

# Made up: (top-1, top-5) of the one middle crop, parameters aside.
ERRORS = {
    "alexnet": (43.1, 19.9), "vgg11": (31.2, 11.4), "vgg13": (30.4, 10.8), "vgg16": (28.7, 9.8),
    "vgg19": (28.6, 9.6), "googlenet": (31.5, 11.2), "resnet18": (30.6, 11.0),
    "resnet34": (27.0, 8.9), "resnet50": (24.9, 7.7), "resnet101": (23.8, 7.0),
    "resnet152": (23.2, 6.7),
}  # fmt: skip
MACS = (0.72, 7.61, 11.31, 15.47, 19.63, 1.58, 1.79, 3.64, 3.86, 7.57, 11.28)


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Runs as a finished study=families_imagenet leaves them, and its definition."""
    text = Path("conf/study/families_imagenet.yaml").read_text(encoding="utf-8")
    stated = yaml.safe_load(text)["study"]
    definition = {
        **stated, "arms": {"arm": stated["nets"]}, "seeds": [0, 1, 2], "plan": None
    }  # fmt: skip
    root = tmp_path_factory.mktemp("runs") / "families_imagenet-full"
    draw = np.random.default_rng(0)
    for (label, (top1, top5)), macs in zip(ERRORS.items(), MACS, strict=True):
        for seed in (0, 1, 2):
            path = write_run(
                root, label, seed, top1 + 0.1 * seed, study=definition, macs=int(macs * 1e9),
                config={
                    "data": {"name": "imagenet"}, "mode": {"name": "full"},
                    "recipe": {"protocol": "10crop"},
                },
                overrides=f"arm={label}",
            )  # fmt: skip
            result = json.loads((path / "result.json").read_text())
            result["metrics"]["test/error_top5"] = round(top5 + float(draw.normal(0, 0.1)), 2)
            result["parameters"] = int(macs * 1e7)
            (path / "result.json").write_text(json.dumps(result))
            if label.startswith("resnet"):
                ten = {"test/error": top1 - 2, "test/error_top5": top5 - 1, "step": 100}
                earlier = {"protocol": "multiscale", **ten, "step": 50}
                for found in ({"protocol": "10crop", **ten}, earlier):
                    file = path / f"evaluation-{found['protocol']}.json"
                    file.write_text(json.dumps(found))
            if label == "resnet50":
                larger = {"protocol": "1crop at 288 of 320", "test/error": top1 - 1, "step": 100}
                (path / "evaluation-1crop-at-288-of-320.json").write_text(json.dumps(larger))
    return root


def test_a_number_stands_beside_published_ones_of_its_protocol_alone(families):
    rows = comparison_rows(collect(families))
    known = {row[1].removesuffix(" (recipe)") for row in rows}
    # Of nets that these runs have not.
    others = {"1crop at 224 of 230", "1crop at 224 of 232", "1crop at 299 of 342"}
    assert known == {*SAME.values(), "1crop at 288 of 320"} - others
    of_50 = [row[1:5] for row in rows if row[0] == "resnet50" and row[2] == "top-1 error %"]
    assert of_50 == [
        ("1crop", "top-1 error %", "25.00 (24.90 to 25.10), n = 3", "24.7"),
        ("1crop", "top-1 error %", "25.00 (24.90 to 25.10), n = 3", "24.01"),
        ("1crop", "top-1 error %", "25.00 (24.90 to 25.10), n = 3", "23.870"),
        ("1crop at 224 of 236", "top-1 error %", "–", "21.948"),
        ("10crop (recipe)", "top-1 error %", "22.90 (22.90 to 22.90), n = 3", "22.85"),
        ("multiscale", "top-1 error %", "–", "20.74"),  # measured of an earlier state alone
        ("1crop at 288 of 320", "top-1 error %", "23.90 (23.90 to 23.90), n = 3", "–"),
    ]
    (own,) = [
        row[1:] for row in rows if row[0] == "alexnet" and row[1:3] == ("1crop", "top-5 error %")
    ]
    assert own[2].endswith(", n = 3")
    assert own[3:] == ("–", "none of this protocol")
    of_vgg = [row[1:] for row in rows if row[0] == "vgg16" and row[2] == "top-5 error %"]
    assert ("dense", "top-5 error %", "–", "8.8") in [row[:4] for row in of_vgg]
    # He's bar chart is of ensembles: its numbers stand beside nothing.
    ensembles = {row["source"] for row in published({"protocol": "test ensemble"})}
    assert ensembles and not any(row[5].startswith(tuple(ensembles)) for row in rows)


def test_runs_on_smaller_images_stand_beside_nothing_until_they_are_shown_the_same(tmp_path):
    small = {"name": "imagenet", "image_shape": [160, 160, 3], "shorter_side": 168}
    study = {**DEFINITION, "published": {"dataset": "imagenet", "model": ["resnet50"]}}
    path = write_run(tmp_path, "resnet50", 0, 24.0, study=study, config={"data": small})
    shown = {"protocol": "1crop at 224 of 236", "test/error": 22.0, "step": 100}
    (path / "evaluation-1crop-at-224-of-236.json").write_text(json.dumps(shown))
    rows = [row[1:5] for row in comparison_rows(collect(tmp_path)) if row[2] == "top-1 error %"]
    measured = [row for row in rows if row[2] != "–"]
    assert measured == [("1crop at 224 of 236", "top-1 error %", "22.00, n = 1", "21.948")]
    assert ("1crop", "top-1 error %", "–", "23.870") in rows


def test_the_chart_of_ensembles_is_a_figure_of_its_own(families):
    report = make_report(families)
    assert set(report.figures) == {"error", "curves", "macs", "parameters", "bars"}
    page = report.page.read_text()
    words = ("Measured beside published", "The revolution of depth", "cannot be compared")
    assert all(word in page for word in words)
    axes = bars_figure({"dataset": "imagenet", "protocol": "test ensemble"}).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [28.2, 25.8, 16.4, 11.7, 7.3, 6.7, 3.57]
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert ticks[-1] == "ILSVRC'15\nResNet\n152 layers"
    assert ticks[3] == "ILSVRC'13\nClarifai\n8 layers"
    assert "ensembles" in axes.get_title()
    assert bars_figure(None) is None


def test_every_net_has_a_colour_of_its_own_in_the_curves(families):
    collection = collect(families)
    figure = curves_figure(collection, lines_of(collection), COLOURS)
    colours = {tuple(line.get_color()) for line in figure.axes[0].lines}
    assert len(colours) == len(ERRORS) > len(COLOURS)


def test_arms_called_as_their_nets_have_one_name(families):
    collection = collect(families)
    assert {run.arm for run in collection.runs} == set(ERRORS)
    assert not {arm.removeprefix("arm=") for arm, _ in collection.missing} & set(ERRORS)


def test_a_damaged_evaluation_is_noted(tmp_path):
    path = write_run(tmp_path, "resnet50", 0, 25.0)
    (path / "evaluation-10crop.json").write_text("{")
    write_run(tmp_path, "resnet50", 1, 25.0)
    damaged = [run for run in collect(tmp_path).runs if run.status == "damaged"]
    assert [run.note.split(" cannot")[0] for run in damaged] == ["evaluation-10crop.json"]
