"""The report of a study at W&B, read back as the JSON that W&B is sent."""

import json

import pytest

from deeper.errors import UserError
from deeper.record.wandb_id import run_id
from deeper.run.study_at_wandb import page_of, publish_report
from deeper.study.report import make_report
from tests.study.conftest import DEFINITION, SEEDS, write_net, write_run, write_study

pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20"  # in wandb-workspaces
)
TRACKER = {"mode": "online", "project": "deeper", "entity": "someone"}


@pytest.fixture
def workspaces():
    pytest.importorskip("wandb_workspaces", reason="needs the extra workspaces, see .ci/run")


def study_in(root, **tracker):
    """Write a study whose runs are mirrored."""
    return write_study(root / "depth_test", seeds=SEEDS[:2], config={"tracker": TRACKER | tracker})


def panels_of(spec):
    [grid] = [block for block in spec["blocks"] if block["type"] == "panel-grid"]
    metadata = grid["metadata"]
    return metadata["runSets"], metadata["panelBankSectionConfig"]["panels"]


def test_a_report_has_error_against_depth_curves_by_arm_and_the_table(tmp_path, online, workspaces):
    report = make_report(study_in(tmp_path))
    address = publish_report(report)
    [sent] = online.reports.values()
    assert sent["displayName"] == DEFINITION["title"]
    assert (sent["entityName"], sent["projectName"]) == ("someone", "deeper")
    assert "someone/deeper/reports/" in address
    spec = json.loads(sent["spec"])
    [runs], panels = panels_of(spec)
    assert [one["name"] for one in runs["grouping"]] == ["group"]
    assert {run_id(run.path) for run in report.collection.finished} == set(
        runs["filters"]["filters"][0]["value"]
    )
    kinds = [panel["viewType"] for panel in panels]
    assert kinds == ["Scatter Plot", "Bar Chart", *["Run History Line Plot"] * 4]
    scatter = panels[0]["config"]
    assert (scatter["xAxis"], scatter["yAxis"]) == ("summary:depth", "summary:test/error")
    drawn = {metric for panel in panels[2:] for metric in panel["config"]["metrics"]}
    assert drawn == {"train/loss", "train/error", "validation/loss", "validation/error"}
    text = sent["spec"]
    assert DEFINITION["claim"] in text
    assert report.verdict.sentence in text
    assert "resnet44" in text


def test_a_second_report_takes_the_place_of_the_first(tmp_path, online, workspaces):
    directory = study_in(tmp_path)
    first = publish_report(make_report(directory))
    assert publish_report(make_report(directory)) == first
    assert len(online.reports) == 1


def test_runs_that_do_not_count_are_not_in_the_report(tmp_path, online):
    directory = study_in(tmp_path)
    tracker = {"tracker": TRACKER}
    write_net(directory, True, 44, 9, 50.0, status="diverged", config=tracker)
    page = page_of(make_report(directory))
    diverged = next(path for path in directory.glob("resnet44-s9-*"))
    assert len(page.runs) == 20
    assert run_id(diverged) not in page.runs


def test_nets_without_an_order_have_no_panel_against_x(tmp_path):
    study = {**DEFINITION, "x": "label", "line": None, "tests": [], "arms": {}}
    for label in ("lenet5", "alexnet"):
        write_run(tmp_path / "nets", label, 0, 10.0, study=study, config={"tracker": TRACKER})
    assert page_of(make_report(tmp_path / "nets")).x is None


def test_runs_in_several_projects_are_no_report(tmp_path):
    directory = study_in(tmp_path)
    other = {"tracker": TRACKER | {"project": "other"}}
    write_net(directory, True, 44, 2, 12.0, config=other)
    with pytest.raises(UserError, match="several projects"):
        page_of(make_report(directory))


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_a_report_is_refused_where_the_runs_are_not_online(tmp_path, online, workspaces, mode):
    with pytest.raises(UserError, match=f"tracker.mode={mode}"):
        publish_report(make_report(study_in(tmp_path, mode=mode)))
    assert online.requests == 0


def test_a_missing_package_is_refused_in_a_sentence(tmp_path, online, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(UserError, match="scripts/setup workspaces"):
        publish_report(make_report(study_in(tmp_path)))
