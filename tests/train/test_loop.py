"""The loop: it learns, it can be cut anywhere, it evaluates exactly, it notices divergence."""

import itertools
import os
import shutil
import subprocess

import jax
import numpy as np
import optax
import pytest

from deeper.errors import UserError
from deeper.tasks.classification import confusion
from deeper.train.checkpoint import Checkpoints
from deeper.train.evaluate import Evaluator, metrics_of, predictions_of
from deeper.train.loop import train
from tests.faults import note
from tests.train.conftest import EVALUATED, Rows, build


@pytest.fixture
def checkpoints(tmp_path):
    made = []

    def open_(experiment, name="checkpoints"):
        made.append(Checkpoints(tmp_path / name, experiment.mesh))
        return made[-1]

    yield open_
    for one in made:
        one.close()


def test_one_batch_is_learned_by_heart(checkpoints, rows):
    experiment, state = build(
        steps=60, operations=(), log_every=20, evaluate_every=60, checkpoint_every=60
    )
    experiment.feed._numbers = lambda step: np.arange(16, dtype=np.int32)
    train(experiment, state, rows, checkpoints(experiment))
    assert rows.rows[-2]["train/loss"] < 0.02
    assert rows.rows[-2]["train/error"] == 0.0


@pytest.mark.parametrize(("per_call", "calls"), [(1, 1), (4, 1), (2, 3)])
def test_a_run_that_is_cut_and_resumed_equals_the_uncut_one_to_the_bit(
    checkpoints, per_call, calls
):
    experiment, state = build(ema_decay=0.9, steps_per_call=per_call)
    uncut = train(experiment, state, Rows(), checkpoints(experiment, "uncut"))

    polled = itertools.count(1)
    first = train(
        experiment,
        state,
        Rows(),
        checkpoints(experiment, "cut"),
        stop_asked=lambda: next(polled) >= calls,
    )
    assert first.status == "interrupted"
    again = checkpoints(experiment, "cut")
    restored = again.restore_last_good(state, warn=pytest.fail)
    assert int(restored.step) == first.step == per_call * calls
    second = train(experiment, restored, Rows(), again)
    assert second.status == "finished"
    jax.tree.map(np.testing.assert_array_equal, uncut.state, second.state)
    assert uncut.metrics == second.metrics


def test_every_example_is_evaluated_exactly_once():
    experiment, state = build(2)
    split = experiment.final[0]
    assert EVALUATED % experiment.settings.batch_size  # the last batch is partial
    variables = {"params": state.params, "batch_stats": state.batch_stats}

    def evaluate(devices):
        experiment, _ = build(devices)
        split = experiment.final[0]
        evaluator = Evaluator(
            predictions_of(experiment.model, experiment.task),
            experiment.mesh,
            "shard_map",
            experiment.feed.take,
            batches_per_call=2,
        )
        return evaluator(variables, split)

    one, two = evaluate(1), evaluate(2)
    assert metrics_of(experiment.task, "test", one)["test/n_seen"] == EVALUATED
    np.testing.assert_array_equal(one["label"], np.asarray(split.feed.source["label"])[96:])
    np.testing.assert_array_equal(one["prediction"], two["prediction"])
    assert confusion(one, 10).sum() == EVALUATED
    # Against the plain formula, without batches.
    images = experiment.task.normalise(split.feed.source["image"][96:])
    logits = np.asarray(experiment.model.apply(variables, images, train=False))
    np.testing.assert_array_equal(one["prediction"], logits.argmax(-1))
    error = 100 * (logits.argmax(-1) != one["label"]).mean()
    assert experiment.task.summarise(one)["error"] == pytest.approx(error)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(checkpoints, rows):
    experiment, state = build(optimizer=optax.sgd(1e18), rate=1e18)
    outcome = train(experiment, state, rows, checkpoints(experiment))
    assert outcome.status == "diverged"
    assert 1 < outcome.step <= 4
    assert not rows.rows


def test_a_damaged_checkpoint_is_put_aside_for_the_one_before(checkpoints, tmp_path):
    experiment, state = build()
    made = checkpoints(experiment)
    train(experiment, state, Rows(), made)
    assert made.steps == [4, 8]
    states = {step: jax.tree.map(np.asarray, made.restore(state, step)) for step in (4, 8)}
    newest = made.directory / "8"
    files = [file.relative_to(newest) for file in newest.rglob("*") if file.is_file()]
    fallen_back = 0
    for number, (file, cut) in enumerate(itertools.product(files, (False, True))):
        place = tmp_path / str(number)
        shutil.copytree(made.directory, place / "checkpoints")
        damaged = place / "checkpoints" / "8" / file
        if cut:
            damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
        else:
            damaged.unlink()
        told = []
        again = Checkpoints(place / "checkpoints", experiment.mesh)
        restored = again.restore_last_good(state, warn=told.append)
        step = int(restored.step)
        jax.tree.map(np.testing.assert_array_equal, restored, states[step])
        note(
            "a checkpoint's file cut" if cut else "a checkpoint's file deleted", steps_lost=8 - step
        )
        if step == 4:
            fallen_back += 1
            assert "checkpoint of step 8" in told[0]
            assert "going back to the one before" in told[0]
            assert (place / "checkpoints-damaged" / "8").is_dir()
        else:
            assert (step, told) == (8, [])
        if fallen_back == 1:
            assert train(experiment, restored, Rows(), again).status == "finished"
            assert again.steps == [4, 8]
        again.close()
    assert len(files) < 2 * fallen_back, "most of the files matter"


def test_rows_carry_step_epoch_examples_and_time(checkpoints, rows):
    experiment, state = build()
    train(experiment, state, rows, checkpoints(experiment), seconds_before=100.0)
    training = [row for row in rows.rows if "train/loss" in row]
    validation = [row for row in rows.rows if "validation/error" in row]
    assert [row["step"] for row in training] == [4, 8]
    assert [row["step"] for row in validation] == [4, 8]
    assert training[-1]["examples"] == 8 * 16
    assert training[-1]["epoch"] == pytest.approx(8 * 16 / 96)
    assert all(row["time"] >= 100.0 for row in rows.rows)
    assert {"train/error", "lr", "images_per_second"} <= set(training[0])
    assert validation[0]["validation/n_seen"] == EVALUATED


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_stops_the_run_and_the_checkpoint_before_is_good(small_disk):
    experiment, state = build()
    checkpoints = Checkpoints(small_disk / "checkpoints", experiment.mesh)
    polled = itertools.count(1)
    first = train(experiment, state, Rows(), checkpoints, stop_asked=lambda: next(polled) >= 1)
    assert first.step == 4
    filler = small_disk / "filler"
    with filler.open("wb") as stream, pytest.raises(OSError, match="No space"):
        for _ in range(1000):
            stream.write(bytes(8192))
            stream.flush()
    with pytest.raises(UserError, match="disk is full"):
        train(experiment, first.state, Rows(), checkpoints)
    checkpoints.close()
    filler.unlink()
    again = Checkpoints(small_disk / "checkpoints", experiment.mesh)
    restored = again.restore_last_good(state, warn=pytest.fail)
    assert int(restored.step) == 4
    assert train(experiment, restored, Rows(), again).status == "finished"
    again.close()
