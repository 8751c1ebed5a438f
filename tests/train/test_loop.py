"""The training loop: learning, resuming, exact evaluation, divergence."""

import itertools
import os
import shutil
import subprocess
from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from deeper.errors import UserError
from deeper.tasks.classification import confusion
from deeper.train.checkpoint import CheckpointReader, Checkpoints
from deeper.train.device_feed import OWN, Resident
from deeper.train.evaluate import Evaluator, metrics_of, predictions_of
from deeper.train.loop import train
from deeper.train.rungs import Rungs
from tests.faults import note, with_writes_given_up
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
    batch = {OWN: np.arange(16, dtype=np.int32)}
    experiment = replace(experiment, feed=Resident(experiment.feed.source, lambda step: batch))
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


@pytest.mark.long
def test_a_run_that_is_cut_at_a_rung_goes_on_to_the_same_bits(checkpoints):
    experiment, state = build(
        steps=9, steps_per_call=4, evaluate_every=100, checkpoint_every=100, rate=0.05
    )
    uncut = train(experiment, state, Rows(), checkpoints(experiment, "uncut"))
    told = []

    def cut(share, score):
        told.append((share, score))
        return share == 3

    rows = Rows()
    first = train(
        experiment, state, rows, checkpoints(experiment, "cut"), rungs=Rungs((1, 3), 9, cut)
    )
    assert (first.status, first.step) == ("interrupted", 3)
    measured = [(r["step"], r["validation/error"]) for r in rows.rows if "validation/error" in r]
    assert [step for step, _ in measured] == [share for share, _ in told] == [1, 3]
    assert [error for _, error in measured] == [score for _, score in told]
    again = checkpoints(experiment, "cut")
    restored = again.restore_last_good(state, warn=pytest.fail)
    second = train(experiment, restored, Rows(), again)
    assert second.status == "finished"
    jax.tree.map(np.testing.assert_array_equal, uncut.state, second.state)
    assert uncut.metrics == second.metrics


def test_rungs_are_shares_of_the_run_that_lie_before_its_end():
    rungs = Rungs((1, 3), 9, lambda share, score: False)
    assert rungs.at(450) == {50: 1, 150: 3}
    assert rungs.at(10) == {2: 1, 4: 3}
    assert rungs.at(1) == {}


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


def test_parameters_that_are_not_finite_are_not_saved_nor_evaluated(checkpoints, rows):
    # The last update before an evaluation and a checkpoint: no loss has seen it yet.
    def spoilt_at(step):
        def update(grads, count, params):
            del params
            bad = jnp.where(count == step - 1, jnp.nan, 0.0)
            return jax.tree.map(lambda leaf: 0.0 * leaf + bad, grads), count + 1

        return optax.GradientTransformation(lambda params: jnp.zeros((), jnp.int32), update)

    experiment, state = build(optimizer=spoilt_at(8), ema_decay=0.9)
    made = checkpoints(experiment)
    outcome = train(experiment, state, rows, made)
    assert (outcome.status, outcome.step, outcome.not_finite) == ("diverged", 8, "parameters")
    assert made.steps == [4]
    assert [row["step"] for row in rows.rows if "validation/error" in row] == [4]
    assert not outcome.predictions.keys() - {"validation"}


def test_a_run_that_is_read_while_it_saves_saves_all_the_same(tmp_path, checkpoints):
    experiment, state = build()
    made = checkpoints(experiment)
    large = {"kernel": np.random.default_rng(0).normal(size=(4096, 4096)).astype(np.float32)}
    first, second = (
        state.replace(step=np.int32(step), params=large, opt_state=(), batch_stats={})
        for step in (3, 5)
    )
    made.save(first, 40.0)
    made.wait()
    made.save(second, 30.0)
    under_way = [place for place in made.directory.iterdir() if not place.name.isdecimal()]
    assert under_way, "the save is in flight"
    reader = CheckpointReader(made.directory, experiment.mesh)
    assert (reader.steps, reader.best_step) == ([3], 3)
    assert all(place.exists() for place in under_way)
    found = reader.restore_variables(3)
    np.testing.assert_array_equal(found["params"]["kernel"], large["kernel"])
    made.wait()
    assert (reader.steps, reader.best_step) == ([3, 5], 5)
    assert made.steps == [3, 5]


def test_a_reader_changes_nothing_on_the_disk(tmp_path, checkpoints):
    experiment, state = build()
    made = checkpoints(experiment)
    train(experiment, state, Rows(), made)
    left = made.directory / "12.orbax-checkpoint-tmp-1" / "default"
    left.mkdir(parents=True)
    (made.directory / "8" / "metrics" / "metrics").write_text("damaged")
    (made.directory / "8" / "default" / "_METADATA").unlink()

    def disk():
        return sorted((place, place.stat().st_mtime_ns) for place in tmp_path.rglob("*"))

    before = disk()
    reader = CheckpointReader(made.directory, experiment.mesh)
    assert (reader.steps, reader.best_step) == ([4, 8], 4)
    found = reader.restore_variables(4)["params"]
    assert jax.tree.structure(found) == jax.tree.structure(state.params)
    with pytest.raises(UserError, match="checkpoint of step 8"):
        reader.restore_variables(8)
    assert CheckpointReader(tmp_path / "none", experiment.mesh).steps == []
    assert disk() == before


def test_no_checkpoint_with_an_unknown_or_a_nan_error_is_the_best(checkpoints):
    experiment, state = build()
    made = checkpoints(experiment)
    for step, error in ((1, np.nan), (2, 50.0), (3, None), (4, np.inf)):
        made.save(state.replace(step=np.int32(step)), error)
    made.wait()
    assert CheckpointReader(made.directory, experiment.mesh).best_step == 2


def test_a_checkpoint_with_nan_is_refused_by_its_readers(checkpoints):
    experiment, state = build()
    made = checkpoints(experiment)
    made.save(state.replace(params={"kernel": np.full(3, np.nan, np.float32)}), None)
    made.wait()
    with pytest.raises(UserError, match="holds NaN or infinity"):
        CheckpointReader(made.directory, experiment.mesh).restore_variables(0)


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
        warnings = []
        again = Checkpoints(place / "checkpoints", experiment.mesh)
        restored = again.restore_last_good(state, warn=warnings.append)
        step = int(restored.step)
        jax.tree.map(np.testing.assert_array_equal, restored, states[step])
        note(
            "a checkpoint's file cut" if cut else "a checkpoint's file deleted", steps_lost=8 - step
        )
        if step == 4:
            fallen_back += 1
            assert "checkpoint of step 8" in warnings[0]
            assert "going back to the one before" in warnings[0]
            assert (place / "checkpoints-damaged" / "8").is_dir()
        else:
            assert (step, warnings) == (8, [])
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


def test_a_number_that_only_an_earlier_evaluation_had_is_not_in_the_outcome(checkpoints, rows):
    experiment, state = build()
    evaluations = itertools.count()

    class AtFirstUnanswered(type(experiment.task)):
        def summarise(self, predictions):
            numbers = super().summarise(predictions)
            return numbers | ({"n_unanswered": 3} if next(evaluations) == 0 else {})

    task = AtFirstUnanswered(
        **{f.name: getattr(experiment.task, f.name) for f in fields(experiment.task)}
    )
    outcome = train(replace(experiment, task=task), state, rows, checkpoints(experiment))
    validations = [row for row in rows.rows if "validation/error" in row]
    assert [row.get("validation/n_unanswered") for row in validations] == [3, None]
    assert "validation/n_unanswered" not in outcome.metrics


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@with_writes_given_up
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
