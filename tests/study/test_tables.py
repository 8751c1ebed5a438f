"""Tables of results and of published numbers."""

import csv
import io
import json

import pytest

from deeper.errors import UserError
from deeper.study import tables
from deeper.study.means import mean_of
from deeper.study.read_runs import collect
from tests.study.conftest import DEFINITION, write_net, write_run


def test_results_have_a_sorted_row_for_each_run_that_ended(study):
    write_net(study, True, 56, 0, 90.0, status="diverged")
    write_net(study, True, 56, 1, 90.0, status="unfinished")
    rows = list(csv.DictReader(io.StringIO(tables.results_csv(collect(study)))))
    assert len(rows) == 31
    assert tuple(rows[0]) == tables.COLUMNS
    assert [(r["label"], r["seed"]) for r in rows[:4]] == [
        ("plain8", "0"), ("plain8", "1"), ("plain8", "2"), ("plain14", "0"),
    ]  # fmt: skip
    assert (rows[-1]["label"], rows[-1]["status"], rows[-1]["test/error"]) == (
        "resnet56", "diverged", "",
    )  # fmt: skip


def test_the_summary_has_a_row_a_net_with_mean_and_interval(study):
    collection = collect(study)
    rows = tables.summary_rows(collection)
    labels = [row[0] for row in rows]
    assert labels[:5] == ["plain8", "plain14", "plain20", "plain32", "plain44"]
    assert len(labels) == 10
    errors = [r.value("test/error") for r in collection.finished if r.label == "plain8"]
    assert rows[0][1:] == (
        "3", str(mean_of(errors)), str(mean_of([e - 1.5 for e in errors])), "12,000", "0.96", "10",
        "80",
    )  # fmt: skip


def test_a_number_that_a_result_lacks_is_a_dash(tmp_path):
    path = write_net(tmp_path, True, 8, 0, 10.0) / "result.json"
    result = json.loads(path.read_text())
    del result["metrics"]["train/error"], result["macs"]
    path.write_text(json.dumps(result))
    row = tables.summary_rows(collect(tmp_path))[0]
    assert (row[2], row[3], row[5]) == ("10.00", "–", "–")


def test_settings_that_arms_vary_are_columns(tmp_path):
    definition = {**DEFINITION, "arms": {"model": ["resnet"], "augment": ["flip"]}}
    write_run(tmp_path, "resnet20", 0, 10.0, study=definition, overrides="augment=flip")
    header, row = csv.reader(io.StringIO(tables.results_csv(collect(tmp_path))))
    assert header[:4] == ["label", "seed", "augment", "status"]
    assert row[:4] == ["resnet20", "0", "flip", "finished"]


def test_a_markdown_table_lines_up():
    assert tables.markdown(("net", "n"), [("a", "1")]) == "| net | n |\n| :--- | ---: |\n| a | 1 |"


def test_published_numbers_carry_protocol_and_source():
    everything = tables.published({})
    assert len(everything) > 70
    assert all(row["protocol"] and row["source"] and row["value"] for row in everything)
    rows = tables.published_rows({"dataset": "cifar10", "model": ["resnet56", "resnet110"]})
    assert rows == [
        ("resnet56 (option A; 0.85M params)", "top-1 error %", "6.97", "test",
         "He et al. 2015 table 6"),
        ("resnet110 (option A; best of five 6.43; 1.7M params)", "top-1 error %",
         "6.61 ± 0.16 (std of 5)", "test", "He et al. 2015 table 6"),
    ]  # fmt: skip
    assert tables.published(None) == []
    with pytest.raises(UserError, match="'data'; there are dataset, model"):
        tables.published({"data": "cifar10"})


def test_text_goes_between_markers_and_nowhere_else(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- generated:x -->\nold\n<!-- /generated:x -->\nb\n")
    tables.insert_between_markers(readme, "x", r"new \1")
    expected = "a\n<!-- generated:x -->\nnew \\1\n<!-- /generated:x -->\nb\n"
    assert readme.read_text() == expected
    tables.insert_between_markers(readme, "x", r"new \1")
    assert readme.read_text() == expected


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "<!-- generated:x -->",
        "<!-- /generated:x --> <!-- generated:x -->",
        "<!-- generated:x --><!-- /generated:x -->" * 2,
    ],
)
def test_missing_markers_are_a_users_error(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError, match="generated:x"):
        tables.insert_between_markers(readme, "x", "new")
    assert readme.read_text() == text
    with pytest.raises(UserError, match="There is no"):
        tables.insert_between_markers(tmp_path / "none.md", "x", "new")


def test_a_label_breaks_no_markdown_table():
    lines = tables.markdown(["net", "error"], [["a|b\nc", "1.5"], ["d", "2"]]).splitlines()
    assert lines == ["| net | error |", "| :--- | ---: |", r"| a\|b c | 1.5 |", "| d | 2 |"]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1"])
def test_a_spreadsheet_takes_no_text_for_a_formula(text):
    assert tables.cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3e-4", "resnet20", "a=b", "", "-inf"])
def test_numbers_and_other_text_stay_what_they_are_in_csv(text):
    assert tables.cell(text) == text
