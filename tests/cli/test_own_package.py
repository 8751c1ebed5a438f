"""A net, a data set and a task of a user's own, with YAML files of their own, by every door."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

PACKAGE = Path(__file__).parents[1] / "own_package"
STUDY = ("--config-dir", str(PACKAGE / "conf"), "study=width_signals")
METRIC = "test/mean_average_precision"


@pytest.fixture
def deeper(tmp_path):
    """Give commands in an empty directory, with the package where Python finds it."""
    paths = [str(PACKAGE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "WANDB_MODE": "disabled",
        "COLUMNS": "100",
    }
    environment.pop("XLA_FLAGS", None)

    def run(*arguments, status=0, **more):
        done = subprocess.run(
            [sys.executable, "-m", "deeper", *arguments],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_what_is_the_users_own_trains_resumes_sweeps_and_is_reported(deeper, tmp_path):
    said = deeper("train", "-m", *STUDY, "jobs=2")
    assert "4 runs" in said
    runs = sorted((tmp_path / "runs" / "width_signals-full").glob("signalnet-s*"))
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert len(results) == 4 and all(one["status"] == "finished" for one in results)
    assert all(0.0 < one["metrics"][METRIC] <= 1.0 for one in results)
    # The arms ran from a copy of the code, the package's too.
    [code] = (tmp_path / "runs" / ".code").iterdir()
    assert (code / "src" / "shapes" / "tasks.py").is_file()

    # A run that is cut goes on to the bits of one that is not.
    once = ("train", *STUDY, "seed=0", "model.width=4")
    deeper(*once, "runs=cut", "train.keep_at=[6]", "train.steps=6")
    said = deeper(*once, "runs=whole")
    uncut = Path(tmp_path, said.strip().splitlines()[-1])
    assert json.loads((uncut / "result.json").read_text())["metrics"] == results[0]["metrics"] or (
        json.loads((uncut / "result.json").read_text())["metrics"] == results[1]["metrics"]
    )

    said = deeper("report", *STUDY)
    assert "4 width" in said or "mean average precision" in said
    page = tmp_path / "runs" / "width_signals-full" / "report.html"
    assert "Wider nets find more" in page.read_text(encoding="utf-8")

    # A stranger's directory calls nothing that was not named.
    refused = deeper("evaluate", f"run={runs[0]}", status=2)
    assert "DEEPER_TRUST=shapes" in refused
    found = json.loads(deeper("evaluate", f"run={runs[0]}", DEEPER_TRUST="shapes"))
    assert found[METRIC] == results[0]["metrics"][METRIC]


def test_the_task_is_summarised_over_every_example_once(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    from shapes.tasks import average_precision

    rng = np.random.default_rng(0)
    score, present = rng.normal(size=50), rng.integers(0, 2, 50)
    assert average_precision(score, present) == pytest.approx(
        average_precision_score(present, score)
    )
