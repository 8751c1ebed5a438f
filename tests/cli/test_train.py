"""The command line end to end, on a small data set."""

import json
import os
import shutil
import signal
import time

import pytest

from tests.cli.conftest import SMALL


@pytest.mark.long
def test_a_run_leaves_its_whole_record_and_is_not_repeated(start, tmp_path):
    arguments = ("train", *SMALL, "train.steps=12", "train.epochs=null")
    done = start(*arguments)
    assert done.returncode == 0, done.output
    assert "parameters" in done.output
    assert "learning rate" in done.output
    assert all(len(line) <= 100 for line in done.output.splitlines())
    (run,) = (tmp_path / "runs" / "single").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["metrics"]["test/n_seen"] == 203
    assert result["metrics"]["validation/n_seen"] == 100
    assert result["metrics"]["train/n_seen"] == 50
    environment = json.loads((run / "environment.json").read_text())
    assert environment["run"]["steps"] == 12
    assert (run / "config.yaml").is_file()
    again = start(*arguments)
    assert again.returncode == 0
    assert "finished already" in again.output
    evaluated = start("evaluate", f"run={run}", f"out={tmp_path / 'e.json'}")
    assert evaluated.returncode == 0, evaluated.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["test/error"] == pytest.approx(result["metrics"]["test/error"])


@pytest.mark.long
def test_a_stopped_run_exits_with_its_own_code_and_goes_on_to_the_same_bits(start, tmp_path):
    arguments = ("train", *SMALL, "train.steps=400", "train.epochs=null", "train.steps_per_call=5")
    whole = start(*arguments, "runs=whole")
    assert whole.returncode == 0, whole.output
    process = start(*arguments, "runs=cut", wait=False)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        rows = list((tmp_path / "cut").glob("single/*/metrics.jsonl"))
        if rows and rows[0].read_text().count("\n") > 3:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 75, output
    assert "same command goes on" in output
    resumed = start(*arguments, "runs=cut")
    assert resumed.returncode == 0, resumed.output
    assert "position       step" in resumed.output

    def numbers(root):
        (run,) = (tmp_path / root / "single").iterdir()
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        changing = ("time", "images_per_second")
        kept = [{k: v for k, v in row.items() if k not in changing} for row in rows]
        return kept, json.loads((run / "result.json").read_text())["metrics"]

    whole_rows, whole_metrics = numbers("whole")
    cut_rows, cut_metrics = numbers("cut")
    assert whole_metrics == cut_metrics
    steps = [(row["step"], "lr" in row) for row in cut_rows]
    assert len(steps) == len(set(steps)), "no row twice"
    by_step = {row["step"]: row for row in cut_rows if "validation/error" in row}
    for row in whole_rows:
        if "validation/error" in row:
            assert by_step[row["step"]] == row


def test_a_diverged_run_says_at_which_step_and_what_to_try(start, tmp_path):
    done = start(
        "train", *SMALL, "train.steps=20", "train.epochs=null", "optimizer.learning_rate=1e30"
    )
    assert done.returncode == 3, done.output
    assert "not finite at step" in done.output
    (run,) = (tmp_path / "runs" / "single").iterdir()
    assert json.loads((run / "result.json").read_text())["status"] == "diverged"


@pytest.mark.long
def test_a_sweep_survives_a_killed_arm_and_resume_runs_that_alone(start, tmp_path):
    short = ("train.steps=12", "train.epochs=null", "jobs=2")
    process = start("train", "-m", *SMALL, "hydra/launcher=local", *short, "seed=0,1", wait=False)
    os.kill(wait_for_process(tmp_path / "runs" / "single", "resnet8-s0-*"), signal.SIGKILL)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1, output
    assert "1 of 2 runs failed" in output
    assert "resnet8 s0: ended by signal 9" in output
    done = start("sweep", "status", "format=json")
    words = {state["name"]: state["word"] for state in json.loads(done.output)}
    assert words == {"resnet8 s0": "failed", "resnet8 s1": "finished"}
    resumed = start("sweep", "resume")
    assert resumed.returncode == 0, resumed.output
    assert "To go on with: 1" in resumed.output
    assert len(list(tmp_path.glob("runs/single/*/result.json"))) == 2


def wait_for_process(study, pattern):
    """Return the number of an arm's process, once it is known."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for file in study.glob(f"{pattern}/submission.json"):
            process = json.loads(file.read_text())["process"]
            if process is not None:
                return process["pid"]
        time.sleep(0.05)
    raise AssertionError("no arm was started")


@pytest.mark.long
def test_what_was_submitted_is_what_runs_although_the_tree_is_edited(start, tmp_path):
    """The tree is a copy of this one, the sweep is detached, and both are broken at once."""
    short = (*SMALL, "train.steps=12", "train.epochs=null")
    tree = tmp_path / "tree"
    for name in ("src", "conf"):
        shutil.copytree(name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    given = start("train", "-m", *short, "launch=detach", "runs=frozen", tree=tree)
    assert given.returncode == 0, given.output
    assert "deeper sweep status runs=frozen" in given.output
    (tree / "src" / "deeper" / "cli" / "train.py").write_text("raise SystemExit('edited')")
    (tree / "conf" / "model" / "resnet.yaml").write_text("edited: true\n")
    single = start("train", *short, "runs=single")
    assert single.returncode == 0, single.output
    [run] = tmp_path.glob("frozen/single/*/")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (run / "result.json").exists():
        time.sleep(0.1)
    frozen = json.loads((run / "result.json").read_text())
    [other] = tmp_path.glob("single/single/*/result.json")
    result = json.loads(other.read_text())
    assert frozen["metrics"] == result["metrics"]
    assert run.name == other.parent.name
    assert frozen["command"] == result["command"].replace("runs=single", "runs=frozen")
    assert frozen["overrides"] == [
        word.replace("runs=single", "runs=frozen") for word in result["overrides"]
    ]
    assert "runs=single" in result["overrides"]


@pytest.mark.long
def test_unlabelled_images_mixing_and_views_end_to_end(start, mistake, tmp_path):
    few = ("data.examples=40", "train.steps=10", "train.epochs=null")
    done = start("train", *SMALL, *few, "train=uda", "augment=crop_flip")
    assert done.returncode == 0, done.output
    assert "The images are grey: RandAugment without saturation." in done.output
    [run] = tmp_path.glob("runs/single/*")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(row["train/consistency"] >= 0 for row in rows if "train/loss" in row)
    assert json.loads((run / "result.json").read_text())["train_images"] == 40
    done = start("evaluate", f"run={run}", "protocol=10crop", "out=e.json")
    assert done.returncode == 0, done.output
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["protocol"] == "10crop" and "4 pixels of zeros" in result["protocol_in_words"]

    done = start("train", *SMALL, *few, "augment=cutmix")
    assert done.returncode == 0, done.output
    message = mistake("train", *SMALL, *few, "train=uda", "augment=cutmix")
    assert "Mixup and CutMix cannot be had with train.consistency" in message

    drawn = start(
        "inspect", "augment=randaugment", "data.validation=100", "sheet=2", "out=sheet.png"
    )
    assert drawn.returncode == 0, drawn.output
    assert (tmp_path / "sheet.png").stat().st_size > 50_000


@pytest.mark.long
def test_two_processes_never_work_on_one_run(start, tmp_path):
    arguments = ("train", *SMALL, "train.steps=20000", "train.epochs=null")
    first = start(*arguments, wait=False)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(tmp_path.glob("runs/single/*/config.yaml")):
        time.sleep(0.05)
    second = start(*arguments)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert second.returncode == 2, second.output
    assert "being worked on by process" in second.output


def test_a_dry_run_reads_and_writes_nothing(start, tmp_path):
    done = start("train", "model=resnet", "model.depth=50", "data=imagenet", "mode=dry")
    assert done.returncode == 0, done.output
    assert "25,557,032 parameters" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["inspect", "doctor"])
def test_verbs_that_only_tell(start, verb):
    done = start(verb)
    assert done.returncode == 0, done.output
    assert all(len(line) <= 100 for line in done.output.splitlines())
