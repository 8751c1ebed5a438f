"""Mistakes in a command are reported in one sentence, before any work."""

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from deeper.config.compose import composed, configure, configure_sweep
from deeper.config.identity import config_hash
from deeper.config.instantiate import trust_in_children
from deeper.errors import UserError
from deeper.sweep.claim import frozen_config
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
    "inspect compare=[lenet5] out=f.txt": ".png or .svg",
    "inspect seed=abc": "seed=abc",
    "inspect model.depth=abc": "model.depth=abc",
    "inspect data.image_shape=[1,2]": "data.image_shape=[1, 2]",
    "inspect train.batch_size=0": "train.batch_size=0",
    "prepare data.validation=0.1": "data.validation=0.1",
    "prepare data=folder data.name=x data.source=. data.fraction=2": "data.fraction=2",
    "prepare data=texts data.name=x data.source=.": "Did you mean data.prepare.source",
    "prepare data=folder data.name=x data.prepare.source=.": "Did you mean data.source",
    "prepare data=folder data.name=x data.source=/nowhere": "data.source=/nowhere",
    "prepare data=texts data.name=x": "data.prepare.source=FILE",
    "prepare data=texts data.name=x data.prepare.source=/nowhere": "source=/nowhere",
    "prepare data=texts": "data.name is missing",
    "prepare data=snippets": "pip download",
    "train data=texts_words data.name=x data.classes=2 model=textcnn": "data.prepare.source=FILE",
    "train data=languages model=vdcnn model.depth=8": "model.depth=8",
    "train data=texts data.name=x model=vdcnn": "data.classes",
    "doctor data.dir=": "data.dir=",
    "doctor compile=h300": "compile=h300",
    "train runs=??? mode=dry": "runs is missing",
    "train schedule=[[1],[2]] mode=dry": "schedule=[[1],[2]]",
    "features run=run data=[1,2]": "data=[1,2]: this does not compose",
    "sync runs=nan": "nan",
    "sync runs=1e400": "inf",
    "predict images=x weights=y out=1000000000000": "no such file",
    f"evaluate run=run out={'a' * 3000}": "aaaa...: File name too long",
    f"train init_from={'a' * 3000}/x*": "aaaa...",
    "train -m runs=??? seed=1,2 mode=dry": "runs is missing",
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


@pytest.mark.parametrize("key", ["data.name=1.5", "data.dir=1000000000000"])
def test_a_number_for_a_name_is_taken_as_text(key, said):
    assert "is not prepared" in said("doctor", key)


def test_a_sweep_runs_its_good_arms_and_tells_of_the_bad_ones(tmp_path, monkeypatch):
    from deeper.cli import launching

    words = [["model=lenet5", f"seed={seed}", f"runs={tmp_path}"] for seed in (1, "abc")]
    taken = []
    monkeypatch.setattr(launching, "run_here", lambda work, console: taken.append(work) or 1)
    configs = [compose_train(*overrides) for overrides in words]
    assert launching.run_sweep(configs, words, "local", {"jobs": None}) == 1
    [work] = taken
    assert len(work.directories) == 1 and work.total == 2
    [(name, reason)] = work.failed
    assert "seed=abc" in name and "from 0 to" in reason


def test_an_arm_that_does_not_compose_stops_no_other(tmp_path, said, monkeypatch):
    from deeper.cli import launching

    given = []
    monkeypatch.setattr(launching, "run_here", lambda work, console: given.append(work) or 1)
    command = ("train", "-m", "model=lenet5,nonsense", "seed=1", f"runs={tmp_path}", "code=tree")
    said(*command, status=1)
    [work] = given
    assert len(work.directories) == 1 and work.total == 2
    [(name, reason)] = work.failed
    assert "model=nonsense" in name and "lenet5" in reason
    message = said(*command, "mode=dry", status=2)
    assert "nonsense" in message and "lenet5" in message
    assert "nonsense" in said("train", "-m", "model=nonsense,odd", f"runs={tmp_path}", status=2)


def test_an_arm_from_elsewhere_runs_nothing_of_its_own(tmp_path, mistake, monkeypatch):
    monkeypatch.delenv("DEEPER_TRUST", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    plain = configure("model=lenet5").plain()
    plain["optimizer"] = {"_target_": "os.system", "command": "false"}
    for name in ("a", "b"):
        (tmp_path / "single" / name).mkdir(parents=True)
        text = yaml.safe_dump({**plain, "config_hash": config_hash(plain)})
        (tmp_path / "single" / name / "config.yaml").write_text(text)
    assert "would call os.system" in mistake("arm", tmp_path / "single" / "a")
    message = mistake("sweep", "resume", f"runs={tmp_path}", "study=none", "code=tree")
    assert message.count("is left out") == 2 and "would call os.system" in message
    # What the user's own command named, its arms may call.
    trust_in_children([plain])
    assert frozen_config(tmp_path / "single" / "a").optimizer.command == "false"


def test_a_run_directory_from_elsewhere_runs_nothing_of_its_own(tmp_path, monkeypatch):
    from deeper.run import load

    plain = configure("model=lenet5").plain()
    plain["model"] = {"_target_": "os.system", "command": "false"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match=r"would call os\.system"):
        load.config_of(tmp_path, "run")
    assert load.config_of(tmp_path, "run", own={"os.path"}).model.command == "false"


def test_a_net_of_sequences_on_images_is_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"data\.tokens.*data=languages"):
        configure("model=vdcnn", "data=mnist")


def commands_of(page):
    """Return the commands of deeper in a page's blocks, with the page's own variables filled in."""
    known, commands = {"$PWD": "/here"}, []
    for block in re.findall(r"^```\n(.*?)^```", page, flags=re.S | re.M):
        for line in block.splitlines():
            for name in sorted(known, key=len, reverse=True):
                line = line.replace(name, known[name])
            if given := re.fullmatch(r'([A-Z]+)="(.*)"', line):
                known[f"${given[1]}"] = given[2]
            elif line.startswith("deeper "):
                commands.append(shlex.split(line)[1:])
    return commands


def test_the_ten_commands_of_the_transfer_lab_are_what_the_verbs_take():
    page = (Path(__file__).parents[2] / "experiments/transfer/README.md").read_text("utf-8")
    lab = commands_of(page[page.index("## From a file of weights") :])
    verbs = [verb for verb, *_ in lab]
    assert sorted(verbs) == sorted(
        [
            "weights",
            "predict",
            "prepare",
            "features",
            *2 * ["train"],
            "predict",
            *2 * ["see"],
            "train",
        ]
    )
    for verb, *words in lab:
        if words[0] == "-m":
            assert len(configure_sweep(*words[1:])) == 20
        elif verb == "train":
            configure(*words)
        else:
            composed(verb, words)
