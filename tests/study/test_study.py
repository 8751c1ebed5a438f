"""From run directories to words, tables, figures and a page."""

import re
import shutil

import numpy as np
import pytest
from scipy import stats

from deeper.errors import UserError
from deeper.study import tables
from deeper.study.collect import collect
from deeper.study.report import make_report, update_readme
from deeper.study.statistics import compare, mean_of, verdict
from tests.study.conftest import DEFINITION, write_run


def test_the_interval_is_students():
    values = [13.1, 13.5, 12.9]
    found = mean_of(values)
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert found.mean - found.half_width == pytest.approx(low)
    assert found.mean + found.half_width == pytest.approx(high)
    assert mean_of([1.0]).half_width is None


def errors(root, better, worse):
    for seed, (a, b) in enumerate(zip(better, worse, strict=True)):
        write_run(root, True, 44, seed, a)
        write_run(root, False, 44, seed, b)
    return compare(DEFINITION["tests"][0], collect(root).finished, "test/error")


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [
        ((13.0, 13.1, 12.9), (25.0, 24.0, 26.0), "supported"),
        ((25.0, 24.0, 26.0), (13.0, 13.1, 12.9), "contradicted"),
        ((13.0, 13.1), (14.0, 19.0), "leaning for"),
        ((13.0,), (14.0,), "leaning for"),
        ((13.0, 14.0, 13.5), (13.2, 13.8, 13.6), "open"),
    ],
)
def test_verdicts_follow_the_paired_test(tmp_path, better, worse, expected):
    found = errors(tmp_path / "study", better, worse)
    assert found.verdict == expected
    if len(better) > 1:
        p = stats.ttest_rel(worse, better).pvalue
        assert f"p = {p:.3f}" in found.words
    else:
        assert "cannot be tested" in found.words


def test_the_claim_is_supported_only_if_every_test_is(study):
    report = make_report(study)
    assert [c.verdict for c in report.comparisons] == ["supported", "supported"]
    assert report.verdict.startswith("The numbers support the claim")
    flipped = [
        *report.comparisons[:1],
        report.comparisons[1].__class__("x", "contradicted", "", ()),
    ]
    assert "do not support" in verdict(flipped, complete=True)


def test_a_half_finished_study_says_what_is_missing(study):
    shutil.rmtree(next(study.glob("plain44-s2-*")))
    (next(study.glob("resnet8-s1-*")) / "result.json").unlink()
    shutil.rmtree(next(study.glob("plain14-s0-*")))
    write_run(study, False, 14, 0, 90.0, status="diverged")
    (next(study.glob("plain8-s0-*")) / "result.json").write_text("{ not json")
    with (next(study.glob("plain8-s1-*")) / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 1')  # cut off: no harm
    report = make_report(study)
    states = {run.path.name.rsplit("-", 1)[0]: run.status for run in report.collection.runs}
    assert states["resnet8-s1"] == "unfinished"
    assert states["plain14-s0"] == "diverged"
    assert states["plain8-s0"] == "damaged"
    assert states["plain8-s1"] == "finished"
    assert report.collection.missing == [("plain44", 2)]
    page = report.page.read_text()
    for words in ("plain44, seed 2", "at step 100 of 100", "non-finite loss at step 7", "Damaged"):
        assert words in page
    assert "not complete" in page


def test_a_study_without_a_finished_run_names_the_command(tmp_path):
    with pytest.raises(UserError, match="there are none"):
        make_report(tmp_path / "depth_test", DEFINITION)
    write_run(tmp_path / "depth_test", True, 8, 0, 10.0, status="unfinished")
    with pytest.raises(UserError, match="deeper train -m study=depth_test"):
        make_report(tmp_path / "depth_test", DEFINITION)


def test_the_page_needs_nothing_from_elsewhere(study):
    page = make_report(study).page.read_text()
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page)
    assert "<script" not in page
    assert page.count("<svg") == 3
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_numbers_give_the_same_bytes(study):
    first = {p.name: p.read_bytes() for p in _made(study)}
    second = {p.name: p.read_bytes() for p in _made(study)}
    assert first == second
    assert len(first) == 8


def _made(study):
    report = make_report(study)
    return [report.page, study / "results.csv", *sorted((study / "figures").iterdir())]


def test_results_have_a_row_a_run_and_the_summary_a_row_a_net(study):
    collection = collect(study)
    lines = tables.results_csv(collection).splitlines()
    assert len(lines) == 1 + 30
    rows = tables.summary_rows(collection)
    assert len(rows) == 10
    assert [row[0] for row in rows[:2]] == ["plain8", "plain14"]
    errors = [r.value("test/error") for r in collection.finished if r.label == "plain8"]
    assert rows[0][2] == str(mean_of(errors))


def test_published_numbers_carry_protocol_and_source(study):
    rows = tables.published({"dataset": "cifar10"})
    assert rows
    assert all(row["protocol"] and row["source"] for row in tables.published({}) + rows)
    page = make_report(study).page.read_text()
    assert "He et al. 2015 table 6" in page


def test_a_readme_is_brought_up_to_date_between_its_markers(study, tmp_path):
    readme = tmp_path / "README.md"
    parts = "".join(
        f"<!-- generated:{name} -->\nold\n<!-- /generated:{name} -->\n"
        for name in ("table", "figure", "verdict")
    )
    readme.write_text(f"kept\n{parts}kept too\n")
    update_readme(make_report(study), readme)
    text = readme.read_text()
    assert text.startswith("kept\n")
    assert text.endswith("kept too\n")
    assert "old" not in text
    assert "| plain8 | 3 |" in text
    assert (tmp_path / "figures" / "error.png").is_file()
    with pytest.raises(UserError, match="generated:other"):
        tables.insert_between_markers(readme, "other", "x")


def test_a_study_of_unordered_nets_is_drawn_too(tmp_path):
    root = tmp_path / "families"
    definition = {**DEFINITION, "x": "label", "line": None, "arms": {}, "tests": []}
    for depth in (8, 14):
        for seed in (0, 1):
            write_run(root, True, depth, seed, 10.0 + depth + seed, definition=definition)
    report = make_report(root)
    assert "no test" in report.verdict
    assert report.figures["error"].is_file()


def test_runs_of_different_commits_are_pointed_out(study):
    path = next(study.glob("plain8-s0-*")) / "environment.json"
    path.write_text(
        path.read_text().replace("c0ffee", "decaf1").replace("{", '{"git_dirty": true, ', 1)
    )
    page = make_report(study).page.read_text()
    assert "different commits" in page
    assert "uncommitted changes" in page
