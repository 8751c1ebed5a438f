"""``deeper train``: one run. With -m, a launcher starts `arm` once an arm."""

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console

from deeper.cli import dry
from deeper.cli.banner import banner, banner_facts, transfer_lines
from deeper.cli.live_display import Pipe, Watcher, watcher
from deeper.cli.main import DIVERGED, FAILED, FINISHED, INTERRUPTED, USER_ERROR, tell
from deeper.cli.stop_signals import asking_to_stop
from deeper.cli.terminal import open_console
from deeper.config.identity import config_hash, run_directory
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.profile.stages import stages_of
from deeper.record.atomic_files import to_json
from deeper.record.environment import environment
from deeper.record.run_directory import DATA, Beside, RunDirectory
from deeper.run import build, data_record, device, distributed, load, transfer
from deeper.run.bottleneck import rate_lines
from deeper.run.cached_features import featured
from deeper.run.dataset import Splits, in_result, open_splits, view_of
from deeper.tasks.classification import confusion
from deeper.track.tracker import Examples, Tracker
from deeper.train import losses
from deeper.train.checkpoint import Checkpoints
from deeper.train.data_parallel import everywhere, from_first
from deeper.train.loop import Outcome, train
from deeper.train.state import create

EXAMPLES_SHOWN = 32
ANOTHER = "to run on these, move the directory away, or choose another place with runs=DIRECTORY"
# What JAX's libraries say, by various exceptions, where another process is gone.
SIGNS_OF_LOSS = ("Gloo", "NCCL", "oordination service", "heartbeat")


def run(config: DictConfig) -> int:
    """Train the configured net, or go on where an earlier call was cut."""
    for key, usual in (("launch", "wait"), ("jobs", None)):
        if config[key] != usual:
            raise UserError(f"{key}={config[key]} is for sweeps: give `deeper train -m`.")
    config = build.frozen(config, HydraConfig.get())
    if config.mode.dry:
        return _dry(config, open_console())
    path = run_directory(build.plain_config(config))
    return run_frozen(config, path, list(HydraConfig.get().overrides.task))


def run_frozen(config: DictConfig, path: Path, overrides: list[str] | None = None) -> int:
    """Train what a frozen config says, or go on where an earlier call was cut.

    Args:
        config: from `build.frozen`, or read from a ``config.yaml``.
        path: the run directory.
        overrides: that make the config, for the record; None where they are not known.
    """
    console = open_console()
    plain = build.plain_config(config)
    check(config)  # before anything is written
    distributed.join()
    console.quiet = not distributed.first()
    stop = _StopSignals(console)
    try:
        with _held(path, plain) as directory:
            if from_first(directory.finished):
                if distributed.first():
                    data_record.require_same_if_there(path, config.data, ANOTHER)
                status = directory.result()["status"]
                console.print(
                    f"{path} is {status} already; remove it to run it again.", soft_wrap=True
                )
                return FINISHED if status == "finished" else DIVERGED
            watch = watcher(console, f"{config.label} s{config.seed}")
            try:
                return _train(config, directory, overrides, console, watch, stop)
            finally:
                watch.close()
    except (Exception, KeyboardInterrupt) as error:
        if distributed.count() > 1:
            distributed.leave(_tell_of_several(error))
        raise


@contextmanager
def _held(path: Path, config: Mapping[str, Any]) -> Iterator[RunDirectory]:
    """Hold the run's directory; of several processes the first does, and tells the others."""
    if not distributed.first():
        if from_first(True):
            yield Beside(path)
            return
        raise SystemExit(USER_ERROR)  # the first one says why
    try:
        directory = RunDirectory.open(path, config, config_hash(config))
    except Exception:
        from_first(False)
        raise
    with directory:
        from_first(True)
        yield directory


def _tell_of_several(error: BaseException) -> int:
    """Print what went wrong in one of several processes; return its exit status."""
    reason = str(error)[:200]
    if not any(sign in reason for sign in SIGNS_OF_LOSS):
        return tell(error)
    print(
        "deeper: Another process of this run has ended or cannot be reached. Start the run again: "
        f"it goes on from its last checkpoint. ({reason})",
        file=sys.stderr,
    )
    return FAILED


def check(config: DictConfig) -> None:
    """Raise a UserError for a mistake in a frozen config, as far as no data are needed."""
    own = RunConfig.of(build.plain_config(config)).train
    losses.loss_of(own.loss, own.label_smoothing, own.target_threshold)
    view_of(config.data)
    model = build.build_model(config)
    if config.transfer.phases:
        transfer.phase_configs(config, stages_of(model, tuple(config.data.image_shape)))
    load.source_of(config)


def _train(
    config: DictConfig,
    directory: RunDirectory,
    overrides: list[str] | None,
    console: Console,
    watch: Watcher,
    stop: "_StopSignals",
) -> int:
    device.start_jax(config.train.cpu_kernels)
    mesh = device.mesh_of(config.train.devices)
    splits = open_splits(config)
    plan = build.make_plan(config, len(splits.train.labels))
    begin = load.beginning(config, plan)
    if plan.last_layer is None or distributed.count() > 1:
        experiment = build.assemble(config, plan, splits, mesh)
    else:
        seen = featured(config, plan, splits, begin.variables, mesh, console)
        experiment = build.assemble(config, plan, seen, mesh, features=True)
    state = create(
        begin.variables,
        plan.phases[0].optimizer,
        seed=config.seed,
        keep_ema=config.train.ema is not None,
    )
    checkpoints = Checkpoints(directory.path / "checkpoints", mesh, plan.settings.keep_at)
    state = (
        checkpoints.restore_last_good(state, warn=partial(console.print, soft_wrap=True)) or state
    )
    step = int(state.step)
    told = load.compare_preprocessing(config, overrides) if step == 0 else None
    _take_data(config, directory, splits, begun=step > 0)
    seconds_before = directory.truncate_after(step)
    console.print(banner(config.label, plan, mesh, step, view_of(config.data)))
    for line in (*transfer_lines(plan, begin), *([told] if told else [])):
        console.print(line, soft_wrap=True, markup=False)
    for notice in build.notices(config):
        console.print(notice)
    directory.write_environment(
        environment()
        | device.facts(mesh)
        | {"overrides": overrides, "run": banner_facts(plan, mesh, step)}
    )
    if distributed.first():
        tracker = Tracker.start(directory, config=build.plain_config(config))
    else:
        tracker = Tracker(directory, None)
    outcome, on_cpu = None, mesh.devices.flat[0].platform == "cpu"
    try:
        outcome = train(
            experiment,
            state,
            tracker,
            checkpoints,
            seconds_before=seconds_before,
            watch=watch,
            stop_asked=distributed.agreed_by(
                lambda: stop.asked or (isinstance(watch, Pipe) and watch.broken), mesh
            ),
            tell_rates=lambda rates: console.print(
                "\n".join(rate_lines(config, splits.train.images, rates, on_cpu=on_cpu)),
                soft_wrap=True,
            ),
        )
        if outcome.status == "finished" and distributed.first():
            tracker.summary(outcome.metrics, _examples(splits, outcome))
        if outcome.status != "interrupted":
            result = _result(config, plan, splits, outcome) | {"overrides": overrides}
            directory.write_result(result)
    finally:
        experiment.close()
        if outcome or distributed.count() == 1:
            checkpoints.close()  # which waits for the other processes, and one may be gone
        tracker.finish(outcome.status if outcome else "failed")
    return _say(outcome, directory, console)


def _take_data(config: DictConfig, directory: RunDirectory, splits: Splits, *, begun: bool) -> None:
    """Write down which data the run sees, or compare them with those that it saw before."""
    found = data_record.record_of(config, splits)
    number = int(found["fingerprint"][:7], 16)  # as much of it as an int32 has room for
    if not everywhere(from_first(number) == number):
        raise UserError(
            f"{config.data.name} in {config.data.dir} is not the same data in all processes of "
            "this run: give all hosts the same."
        )
    if begun:
        data_record.require_same(directory.path, config.data, found, ANOTHER)
    directory.take_config()
    if not begun or data_record.read_record(directory.path) is None:
        directory.write(DATA, to_json(found, indent=2))


def _result(
    config: DictConfig, plan: build.Plan, splits: Splits, outcome: Outcome
) -> dict[str, Any]:
    """Return what `result.json` holds."""
    plain = build.plain_config(config)
    batch = plan.settings.batch_size
    result = {
        "status": outcome.status,
        **build.facts(config, plan),
        "steps": outcome.step,
        "epochs": outcome.step * batch / plan.train_size,
        "seconds": outcome.seconds,
        "compile_seconds": outcome.compile_seconds,
        "images_per_second": outcome.images_per_second,
        "metrics": outcome.metrics,
        "config_hash": config_hash(plain),
        "git_commit": environment()["git_commit"],
        "command": f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
    }
    if config.data.get("crop") is not None:
        result["antialias"] = config.data.antialias  # it changes a photograph's pixels
    if outcome.rates is not None:
        result["rates"] = asdict(outcome.rates) | {"bound_by": outcome.rates.bound_by}
    if splits.unreadable:
        result["unreadable"] = in_result(splits.unreadable)
    if outcome.status == "diverged":
        reason = f"non-finite {outcome.not_finite} at step {outcome.step}"
        result |= {"step": outcome.step, "reason": reason}
    return result


def _examples(splits: Splits, outcome: Outcome) -> Examples:
    """Return the first test images with what the net says of them, and the confusion matrix."""
    test = outcome.predictions["test"]
    names = splits.dataset.class_names
    shown = slice(0, EXAMPLES_SHOWN)
    return Examples(
        images=np.asarray(splits.test.images[shown]),
        labels=test["label"][shown],
        predictions=test["prediction"][shown],
        confidences=test["confidence"][shown],
        class_names=names,
        confusion=confusion(test, len(names)),
    )


def _say(outcome: Outcome, directory: RunDirectory, console: Console) -> int:
    """Print what became of the run and return the exit status."""
    if outcome.status == "finished":
        metrics = outcome.metrics
        line = f"test error {metrics['test/error']:.2f} % of {metrics['test/n_seen']:,} images"
        if "validation/error" in metrics:
            line += f", validation {metrics['validation/error']:.2f} %"
        console.print(
            f"{line}, training {metrics['train/error']:.2f} %; {outcome.seconds:.0f} s, "
            f"{outcome.images_per_second:,.0f} img/s"
        )
        for split in ("test", "validation", "train"):
            if unanswered := metrics.get(f"{split}/n_unanswered"):
                console.print(
                    f"{unanswered:,} answers on the {split} split are NaN or infinite; they count "
                    "as wrong."
                )
        console.print(str(directory.path))
        return FINISHED
    if outcome.status == "interrupted":
        console.print(
            f"Stopped after step {outcome.step}; the same command goes on from there. "
            f"{directory.path}",
            soft_wrap=True,
        )
        return INTERRUPTED
    console.print(
        f"The {outcome.not_finite} became not finite at step {outcome.step}: try a smaller "
        f"optimizer.learning_rate, a longer schedule.warmup or "
        f"train.gradient_clip=1. {directory.path}"
    )
    console.print(str(directory.path), soft_wrap=True)
    return DIVERGED


def _dry(config: DictConfig, console: Console) -> int:
    """Print what a run would be; nothing is read, compiled or trained."""
    device.start_jax(config.train.cpu_kernels)
    mesh = device.mesh_of(config.train.devices)
    one = dry.cost(config, config.label, {}, devices=mesh.devices.size)
    console.print(banner(config.label, one.plan, mesh, 0))
    hours = ", ".join(f"{value:.3g} (one {name})" for name, value in one.hours.items())
    console.print(f"hours          {hours}")
    console.print(dry.assumptions(config), style="dim")
    return FINISHED


class _StopSignals:
    """SIGINT, SIGTERM and SIGHUP ask for a stop at the next call; a second Ctrl-C stops at once.

    A second SIGTERM does not: a batch system sends it to every process of a job, and a launcher
    passes it on besides; to stop at once it has SIGKILL.
    """

    def __init__(self, console: Console):
        self.asked = False
        self._console = console
        for number in asking_to_stop():
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked = True
            self._console.print("Stopping after a checkpoint; Ctrl-C once more stops at once.")
