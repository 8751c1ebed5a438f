"""A user's net, data set and task with their own YAML files, in commands and in Python."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from deeper.config.compose import configure
from deeper.errors import UserError
from deeper.train.evaluate import metrics_of

PACKAGE = Path(__file__).parents[1] / "own_package"
CONF = PACKAGE / "conf"
STUDY = ("--config-dir", str(CONF), "study=width_signals")
METRIC = "test/mean_average_precision"


CUT = f"""
import sys, deeper
config = deeper.configure("study=width_signals", *sys.argv[1:], directories=[{str(CONF)!r}])
polls = iter(range(100))
run = deeper.train(config, progress=False, stop_asked=lambda: next(polls) >= 2)
print(run.status)
"""


@pytest.fixture
def python(tmp_path):
    """Run Python in an empty directory, with the package where it is found."""
    paths = [str(PACKAGE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "WANDB_MODE": "disabled",
        "COLUMNS": "100",
    }
    environment.pop("XLA_FLAGS", None)

    def run(code, *arguments, status=0, **more):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture
def deeper(python):
    """Give commands there."""
    code = "import runpy; runpy.run_module('deeper', run_name='__main__', alter_sys=True)"
    return partial(python, code)


@pytest.mark.long
def test_what_is_the_users_own_trains_resumes_sweeps_and_is_reported(deeper, python, tmp_path):
    said = deeper("train", "-m", *STUDY, "jobs=2")
    assert "4 runs" in said
    runs = sorted((tmp_path / "runs" / "width_signals-full").glob("signalnet-s*"))
    results = [json.loads((run / "result.json").read_text()) for run in runs]
    assert len(results) == 4 and all(one["status"] == "finished" for one in results)
    assert all(0.0 < one["metrics"][METRIC] <= 1.0 for one in results)
    # The arms ran from a copy of the code, the package's too.
    [code] = (tmp_path / "runs" / ".code").iterdir()
    assert (code / "src" / "shapes" / "tasks.py").is_file()

    # A run that Python began and cut is gone on with by the command, to the bits of one uncut.
    once = ("seed=0", "model.width=4", "runs=cut")
    assert "unfinished" in python(CUT, *once)
    assert not {"image", "images", "img/s"} & set(deeper("train", *STUDY, *once).split())
    [cut] = (tmp_path / "cut").glob("*/signalnet-s*")
    [uncut] = [one for one, run in zip(results, runs, strict=True) if run.name == cut.name]
    assert json.loads((cut / "result.json").read_text())["metrics"] == uncut["metrics"]
    steps = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)

    deeper("report", *STUDY)
    page = tmp_path / "runs" / "width_signals-full" / "report.html"
    assert "Wider nets find more" in page.read_text(encoding="utf-8")

    seen = (f"run={runs[0]}", "split=test", "n=2", "attribution=[gradient,occlusion]", "out=seen")
    deeper("see", *seen, DEEPER_TRUST="shapes")
    drawn = {path.name for path in (tmp_path / "seen").glob("*.png")}
    assert drawn == {"filters.png", "attribution_gradient.png", "attribution_occlusion.png"}

    # What needs images, labels or torchvision's names says so.
    for verb, said in (
        (("see", "score=all"), "is for nets of images"),
        (("features",), "a column label, which signals has not"),
        (("weights", "out=net.safetensors"), "names=deeper"),
    ):
        assert said in deeper(*verb, f"run={runs[0]}", status=2, DEEPER_TRUST="shapes")
    asked = f"import deeper; deeper.load({str(runs[0])!r}, trust=['shapes']).net()([[0.0]])"
    assert "UserError: The run's task asks for a column 'signal'" in python(asked, status=1)

    # A stranger's directory calls nothing that was not named.
    refused = deeper("evaluate", f"run={runs[0]}", status=2)
    assert "DEEPER_TRUST=shapes" in refused
    found = json.loads(deeper("evaluate", f"run={runs[0]}", DEEPER_TRUST="shapes"))
    assert found[METRIC] == results[0]["metrics"][METRIC]
    assert found["protocol"] != "1crop"


def test_a_mistake_in_what_is_the_users_own_is_said_before_anything_is_written(deeper, tmp_path):
    own = ("--config-dir", str(CONF), "model=signalnet", "data=signals", "augment=none")
    assert "say which task" in deeper("train", *own, status=2)
    assert "unexpected keyword argument 'shft'" in deeper(
        "train", *own, "task=multilabel", "+task.shft=1", status=2
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("chosen", "asks"), [("augment=cutout", "augment"), ("train=uda", "train")]
)
def test_what_asks_for_a_value_that_the_data_have_not_is_named(chosen, asks):
    words = ("model=signalnet", "data=signals", "task=multilabel", "augment=none")
    with pytest.raises(UserError, match=rf"^{asks} .*data\.padding.*{asks}=NAME"):
        configure(*words, chosen, directories=[CONF])


def test_a_task_without_its_metric_is_told_so():
    task = SimpleNamespace(metric="accuracy", summarise=lambda rows: {"error": 1.0})
    with pytest.raises(UserError, match="metric is accuracy, and its summarise"):
        metrics_of(task, "test", {"label": np.zeros(2)})


def test_an_installed_package_brings_its_yaml_files_by_an_entry_point(python, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(CONF, site / "shapes_conf")
    (site / "shapes_conf" / "__init__.py").touch()
    about = site / "shapes-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[deeper.conf]\nshapes = shapes_conf\n")
    code = (
        f"import sys; sys.path.append({str(site)!r}); import deeper\n"
        "print(deeper.configure('study=width_signals').data.input_shape)"
    )
    assert "(64, 1)" in python(code)


def test_the_task_is_summarised_over_every_example_once(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    from shapes.tasks import average_precision

    rng = np.random.default_rng(0)
    score, present = rng.normal(size=50), rng.integers(0, 2, 50)
    assert average_precision(score, present) == pytest.approx(
        average_precision_score(present, score)
    )
