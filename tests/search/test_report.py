"""The report of a search: the choice, its cost, and the reruns with their intervals."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("optuna")

from deeper.errors import UserError
from deeper.search.report import make_report, update_readme
from deeper.search.reruns import arms_of_reruns, draws_of, read_reruns
from tests.search.conftest import RATE, launcher, run_all, searched, section

MARKERS = "".join(
    f"<!-- generated:{name} -->\n<!-- /generated:{name} -->\n"
    for name in ("chosen", "trials", "figure")
)


def finish(arm, error, wrong):
    """Write what a finished run has, with some wrong answers among 200 test examples."""
    arm.directory.mkdir(parents=True)
    (arm.directory / "config.yaml").write_text("{}\n")
    result = {"status": "finished", "metrics": {"test/error": error}}
    (arm.directory / "result.json").write_text(json.dumps(result))
    np.savez_compressed(arm.directory / "examples.npz", correct=np.arange(200) >= wrong)


def test_a_search_is_reported_with_the_reruns_of_its_winner(runs, tmp_path):
    search = searched(runs)
    with launcher(search, 5) as trials:
        run_all(trials)
    arms = arms_of_reruns(search, search.best(), draws_of(search.definition.config()[1], section()))
    assert read_reruns(search, arms, section()) is None
    for number in range(5):
        finish(arms["winner"][number], 10.0 + number, 20 + 2 * number)
        finish(arms["baseline"][number], 20.0 + number, 40 + 2 * number)
    rerun = read_reruns(search, arms, section())
    assert rerun.values["winner"] == [10, 11, 12, 13, 14]
    seeds, examples = rerun.intervals["difference"]
    assert (seeds.low, seeds.mean, seeds.high) == pytest.approx((-10, -10, -10))
    assert examples.low < -10 < examples.high
    assert "5 seeds" in seeds.way
    assert "bootstrap over 200 test examples" in examples.way

    report = make_report(search, rerun)
    written = json.loads((search.directory / "report.json").read_text())
    assert written["chosen"]["values"] == search.best().values
    assert written["cost"]["trials"] == 5
    with (search.directory / "trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row[RATE]) for row in rows] == [t.values[RATE] for t in search.journal.trials()]
    assert (search.directory / "search.png").read_bytes()[:4] == b"\x89PNG"

    readme = tmp_path / "page" / "README.md"
    readme.parent.mkdir()
    readme.write_text(MARKERS)
    update_readme(report, readme)
    page = readme.read_text()
    assert "5 trials" in page
    assert "search.png" in page
    assert (readme.parent / "trials.csv").is_file()
    readme.write_text(MARKERS.replace("generated:trials", "generated:others"))
    with pytest.raises(UserError, match="trials"):
        update_readme(report, readme)


def test_without_a_trial_that_came_to_its_end_nothing_is_chosen(runs):
    with pytest.raises(UserError, match="status"):
        searched(runs).best()
