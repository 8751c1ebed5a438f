"""``deeper search``, as a user starts and kills it."""

import json
import time

import psutil
import pytest

pytest.importorskip("optuna")

SPACE = "search.space={optimizer.learning_rate:{low:0.01,high:1.0,log:true}}"
SHORT = (
    "model=lenet5", "train.batch_size=16", "train.steps=9", "train.evaluate_every=1e9",
    "train.checkpoint_every=1e9", "train.train_error_examples=50", "data.validation=100",
    "tracker.mode=disabled", "jobs=2", "search.fresh=2", "trials=3",
)  # fmt: skip


@pytest.mark.long
def test_a_search_that_was_killed_goes_on_and_reruns_its_winner(start, tmp_path):
    place = tmp_path / "runs" / "single" / "search"
    killed = start("search", *SHORT, SPACE, wait=False)
    deadline = time.monotonic() + 200
    while not list(place.glob("trials/*/metrics.jsonl")) and time.monotonic() < deadline:
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    launcher = psutil.Process(killed.pid)
    for process in [launcher, *launcher.children(recursive=True)]:
        process.kill()
    killed.communicate()
    again = start("search", *SHORT, SPACE)
    assert again.returncode == 0, again.output
    report = json.loads((place / "report.json").read_text())
    assert report["cost"]["trials"] == 3
    assert set(report["reruns"]["values"]) == {"winner", "baseline"}
    assert len(report["reruns"]["intervals"]["difference"]) == 2
    trials = (place / "trials.csv").read_text()
    assert len(trials.splitlines()) == 4
    assert "test" not in trials.splitlines()[0]
    assert (place / "search.png").is_file()
    status = start("search", "status", *SHORT, SPACE)
    assert "3 trials" in status.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("search.space={optimizer.learning_rate:[0.1]}",), "two or more"),
        ((), "search.space"),
        (("search.sampler=grid", SPACE), "search.sampler=grid"),
        (("launch=detach", SPACE), "launch=detach"),
        (("finish", SPACE), "no search"),
        (("data.validation=0", SPACE), "data.validation"),
    ],
)
def test_a_mistake_is_one_sentence(mistake, words, says):
    assert says in mistake("search", *words, *SHORT[:6])
