"""Compares the training loop with the bare compiled step on a small net, in interleaved rounds.

The time of the loop is that of `deeper.train.loop.train` with records, the feed of indices and
polling for signals, without evaluation and compilation. The bare step is the same compiled
function, called with the same number of steps per call.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from deeper.xla_flags import set_flags

set_flags()

import jax
import numpy as np
import optax
from rich.console import Console

from deeper.augment.crops_and_colour import Flip
from deeper.augment.pipeline import Normalise
from deeper.data.epoch_order import batch_indices
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.record.environment import environment
from deeper.record.run_directory import RunDirectory
from deeper.study.tables import insert_between_markers, markdown
from deeper.tasks.classification import Classification
from deeper.train import loop
from deeper.train.checkpoint import Checkpoints
from deeper.train.data_parallel import data_mesh, replicate
from deeper.train.device_feed import OWN, Resident, on_device
from deeper.train.losses import cross_entropy
from deeper.train.phases import Phase
from deeper.train.state import create

HERE = Path(__file__).parent
EXAMPLES, BATCH, PER_CALL = 10_000, 128, 20


def build(steps: int) -> tuple[loop.Experiment, dict]:
    """Return an experiment like an arm of the depth study, and its initial variables."""
    mesh = data_mesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (EXAMPLES, 28, 28, 1)).astype(np.uint8)
    labels = rng.integers(0, 10, EXAMPLES).astype(np.int32)
    source = on_device({"image": images, "label": labels}, mesh)
    normalise = Normalise((0.286,), (0.353,))
    model = resnet(20, 10, width=8, stem="stride2")
    schedule = optax.constant_schedule(0.01)
    settings = loop.Settings(
        batch_size=BATCH,
        steps=steps,
        parallel="shard_map",
        steps_per_call=PER_CALL,
        accumulate=1,
        ema_decay=None,
        log_every=50,
        evaluate_every=10**9,
        checkpoint_every=10**9,
    )
    experiment = loop.Experiment(
        model=model,
        phases=(Phase(0, steps, optax.sgd(schedule, momentum=0.9, nesterov=True), schedule),),
        task=Classification((Flip(),), normalise, cross_entropy),
        feed=Resident(source, lambda step: {OWN: batch_indices(EXAMPLES, BATCH, 0, step)}),
        train_size=EXAMPLES,
        validation=None,
        final=(),
        mesh=mesh,
        settings=settings,
    )
    return experiment, initialise(model, 0, (28, 28, 1))


def main() -> None:
    """Measure and print; with --write, also update the JSON file and the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=430)
    parser.add_argument("--write", action="store_true", help="record in experiments/bench")
    options = parser.parse_args()
    experiment, variables = build(options.steps)
    (phase,) = experiment.phases
    call = experiment.compiled_steps(phase)
    # Both sides share one compiled function, which the loop would otherwise compile in each round.
    object.__setattr__(experiment, "compiled_steps", lambda phase: call)

    def fresh():
        return create(variables, phase.optimizer, seed=0, keep_ema=False)

    feeds = [
        experiment.feed.steps(first, PER_CALL, PER_CALL)
        for first in range(0, options.steps, PER_CALL)
    ]

    def bare() -> float:
        state = replicate(fresh(), experiment.mesh)
        start = time.perf_counter()
        for feed in feeds:
            state, _ = call(state, experiment.feed.source, feed, np.int32(PER_CALL))
        jax.block_until_ready(state)
        return time.perf_counter() - start

    def whole(root: Path) -> float:
        with RunDirectory.open(root, {}, "") as record:
            checkpoints = Checkpoints(root / "checkpoints", experiment.mesh)
            state = fresh()
            start = time.perf_counter()
            outcome = loop.train(experiment, state, record, checkpoints)
            jax.block_until_ready(outcome.state)
            seconds = time.perf_counter() - start
            checkpoints.close()
        return seconds

    ratios = []
    with tempfile.TemporaryDirectory() as root:
        bare(), whole(Path(root) / "warm")
        for number in range(options.rounds):
            ratios.append(bare() / whole(Path(root) / str(number)))
    ratio = statistics.median(ratios)
    Console(width=100).print(
        f"loop / bare step: {ratio:.3f} (goal 0.97; rounds {min(ratios):.3f} to {max(ratios):.3f})"
    )
    if options.write:
        facts = environment()
        record = {"ratio": ratio, "ratios": ratios, "cpu": facts["cpu"], "jax": facts["jax"]}
        (HERE / "loop.json").write_text(json.dumps(record, indent=1) + "\n")
        rows = [(f"{ratio:.3f}", "0.97", f"{min(ratios):.3f} to {max(ratios):.3f}")]
        note = (
            f"Median of {options.rounds} interleaved rounds of {options.steps} steps, with its "
            f"last checkpoint; {facts['cpu']}, {len(os.sched_getaffinity(0))} cores; JAX "
            f"{facts['jax']}; commit {str(facts['git_commit'])[:12]}."
        )
        table = markdown(("loop / bare step", "goal", "range"), rows)
        insert_between_markers(HERE / "README.md", "loop", f"{table}\n\n{note}")


main()
