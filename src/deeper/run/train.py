"""Trains one run in its run directory: starts it, continues it, or finds it finished.

Nothing is printed here; a `Display` shows the run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from jax.sharding import Mesh

from deeper.config.calls import package_of
from deeper.config.identity import config_hash, run_directory
from deeper.config.instantiate import targets_in
from deeper.config.schema import RunConfig
from deeper.errors import ReportedElsewhereError, UserError
from deeper.progress import quiet
from deeper.record.atomic_files import read_json, to_json
from deeper.record.environment import environment
from deeper.record.run_directory import ReadOnlyRunDirectory, RunDirectory
from deeper.record.schema import DATA, ENVIRONMENT, NET
from deeper.run import build, data_record, device, distributed, net_record
from deeper.run.bottleneck import rate_lines
from deeper.run.cached_features import featured
from deeper.run.check import OTHER_DATA, check, check_same_data
from deeper.run.cost import check_memory, training_bytes
from deeper.run.dataset import Splits, in_result, open_splits, unreadable_in_words
from deeper.run.examples import batch_of_first, with_predictions
from deeper.run.initial_weights import Beginning, beginning, compare_preprocessing, named_source
from deeper.run.observer import observer_of
from deeper.run.step_profile import StepProfile
from deeper.track.tracker import Tracker
from deeper.train.checkpoint import Checkpoints
from deeper.train.data_parallel import everywhere, from_first
from deeper.train.loop import Experiment, Outcome, train
from deeper.train.observers import Progress
from deeper.train.rungs import Rungs
from deeper.train.state import create

EXAMPLES_SHOWN = 32


@dataclass(frozen=True)
class Start:
    """A run when it starts or continues.

    Attributes:
        config: config of the run.
        plan: net, length and rates.
        mesh: the devices.
        step: step that it continues from.
        beginning: its initial variables and their origin; None if the run continues.
    """

    config: RunConfig
    plan: build.Plan
    mesh: Mesh
    step: int
    beginning: Beginning | None = None

    def facts(self) -> dict[str, Any]:
        """Return its entries in ``environment.json``."""
        plan, settings, summary = self.plan, self.plan.settings, self.plan.summary
        memory = training_bytes(self.config, summary, self.mesh.devices.size)
        return {
            "parameters": summary.parameters,
            "macs": summary.macs,
            "train_size": plan.train_size,
            "batch_size": settings.batch_size,
            "steps": settings.steps,
            "epochs": settings.steps * settings.batch_size / plan.train_size,
            "peak_learning_rate": plan.peak_rate,
            "memory_estimate_bytes": memory,
            "arm_hash": config_hash({**self.config.plain(), "seed": None}),  # of all its seeds
            "first_step": self.step,
            "first_example": self.step * settings.batch_size,
        }


class Display(Protocol):
    """Shows a run."""

    def prepares(self, what: str, done: int, total: int) -> None:
        """Show the progress of work before the run."""

    def begins(self, start: Start) -> None:
        """Show the banner of the run."""

    def says(self, sentence: str) -> None:
        """Show a message to the user."""

    def progress(self, progress: Progress) -> None:
        """Show the progress of the run."""


class Silent:
    """A display that shows nothing."""

    prepares = staticmethod(quiet)

    def begins(self, start: Start) -> None:
        """Show nothing."""

    def says(self, sentence: str) -> None:
        """Show nothing."""

    def progress(self, progress: Progress) -> None:
        """Show nothing."""


@dataclass(frozen=True)
class Trained:
    """The outcome of a call of `train`.

    Attributes:
        path: the run directory.
        status: finished, diverged or interrupted.
        outcome: outcome of training; None if the run had ended before this call.
    """

    path: Path
    status: str
    outcome: Outcome | None


def train_run(
    config: RunConfig,
    path: Path | None = None,
    *,
    overrides: list[str] | None = None,
    command: str | None = None,
    display: Display | None = None,
    stop_asked: Callable[[], bool] = lambda: False,
    rungs: Rungs | None = None,
) -> Trained:
    """Train the run of a config, or continue it after an interruption.

    Args:
        config: config of the run.
        path: the run directory; by default the one named by the config.
        overrides: overrides that make the config on the command line, for the record.
        command: the command line, for the record.
        display: shows the run.
        stop_asked: polled between calls of the compiled loop; if it is true, a checkpoint is
            written and the run returns as interrupted.
        rungs: where the run may be cut, which is an interruption too.

    Raises:
        UserError: a mistake in the config, other data than the run saw before, a directory that
            another process holds, or a disk that refuses.
    """
    display = display or Silent()
    check(config)  # before anything is written
    path = path or run_directory(config.plain())
    record = {"overrides": overrides, "command": command}
    with _held(path, config) as directory:
        if from_first(directory.finished):
            if distributed.first():
                check_same_data(path, config)
            return Trained(path, directory.result()["status"], None)
        outcome = _train(config, directory, record, display, stop_asked, rungs)
    return Trained(path, outcome.status, outcome)


@contextmanager
def _held(path: Path, config: RunConfig) -> Iterator[RunDirectory]:
    """Open and lock the run directory; with several processes, the first does so and informs the
    others.
    """
    if not distributed.first():
        if from_first(True):
            yield ReadOnlyRunDirectory(path)
            return
        raise ReportedElsewhereError
    plain = config.plain()
    try:
        directory = RunDirectory.open(path, plain, config_hash(plain))
    except Exception:
        from_first(False)
        raise
    with directory:
        from_first(True)
        yield directory


def _train(
    config: RunConfig,
    directory: RunDirectory,
    record: dict[str, Any],
    display: Display,
    stop_asked: Callable[[], bool],
    rungs: Rungs | None,
) -> Outcome:
    device.start_jax(config.train.cpu_kernels)
    mesh = device.mesh_of(config.train.devices)
    splits = open_splits(config, display.prepares)
    for sentence in unreadable_in_words(splits):
        display.says(sentence)
    plan = build.make_plan(config, len(splits.train))
    check_memory(config, plan.summary, list(mesh.devices.flat))
    begin = beginning(config, plan, splits.dataset)
    if plan.last_layer is None or distributed.count() > 1:
        experiment = build.assemble(config, plan, splits, mesh)
    else:
        seen = featured(config, plan, splits, begin.variables, mesh, display.prepares)
        experiment = build.assemble(config, plan, seen, mesh, features=True)
    if rungs is not None:
        rungs = _agreed(rungs, experiment)
    state = create(
        begin.variables,
        plan.phases[0].optimizer,
        seed=config.seed,
        keep_ema=config.train.ema is not None,
    )
    checkpoints = Checkpoints(directory.path / "checkpoints", mesh, plan.settings.keep_at)
    state = checkpoints.restore_last_good(state, warn=display.says) or state
    start = Start(config, plan, mesh, int(state.step), begin)
    shown = compare_preprocessing(config, record["overrides"]) if start.step == 0 else None
    _take_data(config, directory, splits, begun=start.step > 0)
    seconds_before = directory.truncate_after(start.step)
    display.begins(start)
    if shown is not None:
        display.says(shown)
    for target in targets_in(config.plain()):
        if package_of(target) == "__main__":
            display.says(
                f"{target} is defined in this notebook or script: the run can be gone on with, and "
                "its net be loaded, only where that is defined again."
            )
    for notice in build.notices(config):
        display.says(notice)
    source = _source(config, directory, begun=start.step > 0)
    directory.write_environment(
        environment() | device.facts(mesh) | record | {"init_from": source, "run": start.facts()}
    )
    if distributed.first():
        tracker = Tracker.start(directory, config.plain(), display.says)
    else:
        tracker = Tracker(directory)
    outcome, failure, on_cpu = None, "", mesh.devices.flat[0].platform == "cpu"
    images = next(iter(splits.train.columns.values()))
    try:
        outcome = train(
            experiment,
            state,
            tracker,
            checkpoints,
            seconds_before=seconds_before,
            watch=display.progress,
            stop_asked=distributed.agreed_by(stop_asked, mesh),
            tell_rates=lambda rates: display.says(
                "\n".join(rate_lines(config, images, rates, on_cpu=on_cpu))
            ),
            profiler=_profiler(directory, plan),
            observer=observer_of(config, experiment.task, splits, tracker, display.says),
            rungs=rungs,
        )
        if outcome.status == "finished" and distributed.first():
            _keep_examples(experiment.task, splits, outcome, tracker)
        if outcome.status != "interrupted":
            net = _net_record(config, splits, source)
            directory.write(NET, to_json(net.plain(), indent=2))
            directory.write_result(_result(config, plan, splits, outcome) | record)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        raise
    finally:
        experiment.close()
        if outcome or distributed.count() == 1:
            checkpoints.close()  # closing waits for the other processes, and one may be gone
        tracker.finish("failed" if failure or not outcome else outcome.status, failure)
    return outcome


def _agreed(rungs: Rungs, experiment: Experiment) -> Rungs:
    """Return rungs at which the first process decides for all.

    Raises:
        UserError: the run has no validation split to be cut by.
    """
    if experiment.validation is None:
        raise UserError(
            "A run is cut by its metric on the validation split, and this one has none: give "
            "data.validation=N."
        )
    cut = rungs.cut
    return replace(
        rungs, cut=lambda share, score: bool(from_first(distributed.first() and cut(share, score)))
    )


def _profiler(directory: RunDirectory, plan: build.Plan) -> StepProfile | None:
    """Return the profiler of the first process."""
    wish = plan.settings.profile
    return StepProfile(directory.path, wish[0]) if wish and distributed.first() else None


def _take_data(config: RunConfig, directory: RunDirectory, splits: Splits, *, begun: bool) -> None:
    """Record the data of the run, or compare them with the record."""
    seen = data_record.record_of(config, splits)
    number = int(seen["fingerprint"][:7], 16)  # the part that fits into an int32
    if not everywhere(from_first(number) == number):
        raise UserError(
            f"{config.data.name} in {config.data.dir} is not the same data in all processes of "
            "this run: give all hosts the same."
        )
    if begun:
        data_record.require_same(directory.path, config.data, seen, OTHER_DATA)
    directory.take_config()
    if not begun or data_record.read_record(directory.path) is None:
        directory.write(DATA, to_json(seen, indent=2))


def _result(
    config: RunConfig, plan: build.Plan, splits: Splits, outcome: Outcome
) -> dict[str, Any]:
    """Return the content of ``result.json``."""
    result = {
        "status": outcome.status,
        **build.facts(config, plan),
        "steps": outcome.step,
        "epochs": outcome.step * plan.settings.batch_size / plan.train_size,
        "seconds": outcome.seconds,
        "compile_seconds": outcome.compile_seconds,
        "images_per_second": outcome.images_per_second,
        "metric": outcome.metric,
        "unit": outcome.unit,
        "less_is_better": outcome.less_is_better,
        "metrics": outcome.metrics,
        "config_hash": config_hash(config.plain()),
        "git_commit": environment()["git_commit"],
    }
    if config.data.of_any_size:
        result["antialias"] = config.data.antialias  # changes the pixels of photographs
    if outcome.rates is not None:
        result["rates"] = asdict(outcome.rates) | {"bound_by": outcome.rates.bound_by}
    if splits.unreadable:
        result["unreadable"] = in_result(splits.unreadable)
    if outcome.status == "diverged":
        reason = f"non-finite {outcome.not_finite} at step {outcome.step}"
        result |= {"step": outcome.step, "reason": reason}
    return result


def _source(config: RunConfig, directory: RunDirectory, *, begun: bool) -> str | None:
    """Return what the run began with; at W&B, an alias may mean another version by now."""
    before = read_json(directory.path / ENVIRONMENT) or {}
    return before["init_from"] if begun and "init_from" in before else named_source(config)


def _net_record(config: RunConfig, splits: Splits, source: str | None) -> net_record.NetRecord:
    """Return what a trained net carries; ``source`` is what it began with."""
    return net_record.record_of(
        config,
        splits.dataset.class_names,
        revision=environment()["git_commit"],
        init_from=source,
    )


def _keep_examples(task: Any, splits: Splits, outcome: Outcome, tracker: Tracker) -> None:
    """Write the first test examples with the net's predictions, if the task supports it."""
    if hasattr(task, "examples"):
        batch, predictions = (
            batch_of_first(splits.test, EXAMPLES_SHOWN),
            outcome.predictions["test"],
        )
        tracker.write_examples(with_predictions(task, batch, predictions, splits.dataset))
