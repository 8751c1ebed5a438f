"""A wrong command is told of in one sentence, before any work."""

import pytest

from deeper.errors import UserError
from tests.cli.test_config import compose_train

WRONG = {
    "train seed=abc": "seed=abc",
    "train seed=null": "seed=null",
    "train optimizer.learning_rate=nan": "optimizer.learning_rate=nan",
    "train train.steps=0": "train.steps=0",
    "train data.limit=-5": "data.limit=-5",
    "train data.name=": "data.name=",
    "train model=null": "model=null",
    "train train.target_threshold=0.2": "target_threshold",
    "train jobs=abc": "jobs=abc",
    "train -m jobs=0 seed=0,1": "jobs=0",
    "train -m jobs=-1 seed=0,1": "jobs=-1",
    "train -m seed=abc,null": "seed=abc",
    "train -m hydra/launcher=slurm hydra.launcher.mem_gb=abc seed=0,1": "hydra.launcher.mem_gb=abc",
    "train -m mode=dry seed=abc,x": "seed=abc",
    "predict images=x weights=y batch_size=0": "batch_size=0",
    "predict images=x weights=y batch_size=-1": "batch_size=-1",
    "predict images=x weights=y crop=nan": "crop=nan",
    "predict images=x weights=y out=.": "is a directory",
    "predict images=x": "weights is missing",
    "evaluate run=x batch_size=0": "batch_size=0",
    "evaluate run=x out=nowhere/e.json": "there is no directory nowhere",
    "evaluate run=x out=.": "is a directory",
    "features run=x out=f.csv": "named .npz",
    "features run=x out=nowhere/f.npz": "there is no directory nowhere",
    "see run=x n=0": "n=0",
    "weights run=x out=f.pdf": ".safetensors, .stablehlo or .onnx",
    "weights run=x out=nowhere/f.onnx": "there is no directory nowhere",
    "inspect out=f.txt": ".png or .svg",
    "inspect format=xml": "format=xml",
    "inspect conv input=8x8 kernel=0": "kernel=0",
    "inspect conv input=8x8 out=f.txt": ".png, .svg or .gif",
    "sweep status format=xml": "format=xml",
    "sync upload=never": "upload=never",
    "report study=depth_fashion readme=nowhere/README.md": "there is no directory nowhere",
}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_value_is_told_before_any_work(command, mistake):
    assert WRONG[command] in mistake(*command.split())


def test_a_sweep_runs_its_good_arms_and_tells_of_the_bad_ones(tmp_path, monkeypatch):
    from deeper.cli import launching

    words = [["model=lenet5", f"seed={seed}", f"runs={tmp_path}"] for seed in (1, "abc")]
    taken = []
    monkeypatch.setattr(
        launching.sweep_display, "run_here", lambda work, console: taken.append(work) or 1
    )
    configs = [compose_train(*overrides) for overrides in words]
    assert launching.run_sweep(configs, words, "local", {"jobs": None}) == 1
    [work] = taken
    assert len(work.directories) == 1 and work.total == 2
    [(name, reason)] = work.failed
    assert "seed=abc" in name and "from 0 to" in reason


def test_a_run_directory_from_elsewhere_runs_nothing_of_its_own(tmp_path, monkeypatch):
    from deeper.run import load

    (tmp_path / "config.yaml").write_text("model: {_target_: os.system, command: 'false'}\n")
    with pytest.raises(UserError, match=r"would call os\.system"):
        load.config_of(tmp_path, "run")
    load.config_of(tmp_path, "run", own={"os.path"})
