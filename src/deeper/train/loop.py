"""The training loop: feed, step, log, evaluate, checkpoint, and go on after a cut."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import Mesh

from deeper.train import data_parallel
from deeper.train.checkpoint import Checkpoints, all_finite
from deeper.train.device_feed import Feed
from deeper.train.evaluate import Evaluator, Predictions, Split, metrics_of, predictions_of
from deeper.train.gradients import gradients_by, without_update
from deeper.train.observers import Observer, Profiler, Progress, Record
from deeper.train.phases import Phase
from deeper.train.rungs import Rungs
from deeper.train.state import State, initial_memory
from deeper.train.step import Step, make_step, many_steps
from deeper.train.throughput import Rates, timed

if TYPE_CHECKING:
    from deeper.tasks.task import Task


@dataclass(frozen=True)
class Settings:
    """The numbers of a run; all periods are in steps.

    Attributes:
        batch_size: examples a step, over all devices.
        steps: length of the run.
        parallel: shard_map or pmap.
        steps_per_call: steps under one compiled loop.
        accumulate: micro-batches a step.
        ema_decay: decay a step of the moving averages, or None; see `step.ema_share`.
        log_every: period of the training rows.
        evaluate_every: period of the evaluations on the validation split.
        checkpoint_every: period of the checkpoints.
        keep_at: steps that have a checkpoint besides.
        profile: first and last step to profile, counted from 1, or None.
    """

    batch_size: int
    steps: int
    parallel: data_parallel.Form
    steps_per_call: int
    accumulate: int
    ema_decay: float | None
    log_every: int
    evaluate_every: int
    checkpoint_every: int
    keep_at: tuple[int, ...] = ()
    profile: tuple[int, int] | None = None


@dataclass(frozen=True)
class Experiment:
    """Everything that training needs, built by `deeper.run.build.assemble`.

    Attributes:
        model: the net.
        phases: what trains when, and how; one after the other, the last to the run's end.
        task: what is learned.
        feed: batches of the training split, a function of the step.
        train_size: examples in the training split.
        validation: the held-out split, or None.
        final: splits that are evaluated once, at the end.
        mesh: the devices.
        settings: the numbers.
    """

    model: nn.Module
    phases: tuple[Phase, ...]
    task: "Task"
    feed: Feed
    train_size: int
    validation: Split | None
    final: tuple[Split, ...]
    mesh: Mesh
    settings: Settings

    def close(self) -> None:
        """Stop what computes batches ahead, of all splits."""
        splits = [split for split in (self.validation, *self.final) if split is not None]
        for feed in (self.feed, *(split.feed for split in splits)):
            feed.close()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        phase = self.phase_at(step)
        return float(phase.learning_rate(step - phase.begins))

    def phase_at(self, step: int) -> Phase:
        """Return the phase that a step belongs to."""
        return next(phase for phase in self.phases if step < phase.ends)

    def compiled_steps(self, phase: Phase) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
        """Return the function of (state, source, feed, count) that the loop calls in a phase."""
        many = many_steps(self._step(phase), self.feed.take)
        return data_parallel.parallelise(many, self.mesh, self.settings.parallel, donate_first=True)

    def compiled_gradients(self, phase: Phase) -> Callable[..., Any]:
        """Return the function of (state, source, feed, number) that `gradients_by` describes."""
        one = gradients_by(self._step(without_update(phase)), self.feed.take)
        return data_parallel.parallelise(one, self.mesh, self.settings.parallel, donate_first=False)

    def _step(self, phase: Phase) -> Step:
        settings = self.settings
        return make_step(
            self.model,
            phase,
            self.task,
            steps=settings.steps,
            accumulate=settings.accumulate,
            ema_decay=settings.ema_decay,
        )


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        status: finished, interrupted or diverged.
        state: the last state.
        step: its step; of a diverged run the first step with a non-finite loss, or whose update
            was found to be not finite.
        metrics: of the final evaluations and the last one on the validation split.
        metric: the one that the task goes by.
        unit: of the metric, as text behind a number.
        less_is_better: whether less of the metric is better.
        predictions: of every example, by the name of the split.
        seconds: training and evaluation, over all legs.
        compile_seconds: of this leg, until its first call was under way.
        images_per_second: in training, without compilation and evaluation, of this leg.
        rates: of this leg's beginning; None where the data live on the devices.
        not_finite: loss or parameters, of a diverged run.
    """

    status: str
    state: State
    step: int
    metrics: dict[str, float | int] = field(default_factory=dict)
    metric: str = ""
    unit: str = ""
    less_is_better: bool = True
    predictions: dict[str, Predictions] = field(default_factory=dict)
    seconds: float = 0.0
    compile_seconds: float = 0.0
    images_per_second: float = 0.0
    rates: Rates | None = None
    not_finite: str | None = None


class NotFiniteError(Exception):
    """The loss, or what an update made, became infinite or not a number at a step."""

    def __init__(self, step: int, what: str):
        super().__init__(f"non-finite {what} at step {step}")
        self.step, self.what = step, what


def train(
    experiment: Experiment,
    state: State,
    record: Record,
    checkpoints: Checkpoints,
    *,
    seconds_before: float = 0.0,
    watch: Callable[[Progress], None] = lambda progress: None,
    stop_asked: Callable[[], bool] = lambda: False,
    tell_rates: Callable[[Rates], None] = lambda rates: None,
    profiler: Profiler | None = None,
    observer: Observer | None = None,
    rungs: Rungs | None = None,
) -> Outcome:
    """Train from a state to the end, or to where a stop is asked for.

    Args:
        experiment: what to train, on what, and how.
        state: new, or restored from a checkpoint; its step says where in the run it stands.
        record: takes the rows.
        checkpoints: takes the states.
        seconds_before: what earlier legs of the run took, for the time axis.
        watch: told of progress at every call of the compiled loop.
        stop_asked: polled between calls; then a checkpoint is made and the loop returns.
        tell_rates: told once, at the second call, if the data are streamed.
        profiler: profiles the steps of ``settings.profile``.
        observer: looks at the run at each evaluation.
        rungs: where the run may be cut; it needs a validation split.

    Returns:
        The outcome. A diverged run keeps its last good checkpoint.
    """
    leg = _Leg(experiment, state, record, checkpoints, seconds_before, watch, tell_rates)
    leg.profiler, leg.observer = profiler, observer
    if rungs is not None:
        leg.rungs, leg.cut = rungs.at(experiment.settings.steps), rungs.cut
    try:
        status = leg.run(stop_asked)
    except NotFiniteError as error:
        checkpoints.wait()
        return replace(leg.outcome("diverged", error.step), not_finite=error.what)
    finally:
        leg.end_profile()
    checkpoints.wait()
    return leg.outcome(status, leg.step)


class _Leg:
    """One uninterrupted stretch of a run."""

    def __init__(self, experiment, state, record, checkpoints, seconds_before, watch, tell_rates):
        settings = experiment.settings
        self.experiment, self.settings = experiment, settings
        self.record, self.checkpoints = record, checkpoints
        self.watch, self.tell_rates = watch, tell_rates
        self.state = data_parallel.replicate(state, experiment.mesh)
        self.step = int(state.step)
        self.phase: Phase | None = None  # the one that self.call was compiled for
        splits = [s for s in (experiment.validation, *experiment.final) if s is not None]
        self.evaluator = Evaluator(
            predictions_of(experiment.model, experiment.task),
            experiment.mesh,
            settings.parallel,
            experiment.feed.take,
            batches_per_call=min(16, max((s.batches for s in splits), default=1)),
        )
        self.began = time.monotonic() - seconds_before
        self.training_seconds = 0.0
        self.trained_images = 0
        self.finished_images = 0
        self.compile_seconds = 0.0
        self.rates: Rates | None = None
        self.profiler: Profiler | None = None
        self.profiling = False
        self.observer: Observer | None = None
        self.last_inputs: tuple[Any, int] | None = None  # of an observed run: feed, number of steps
        self.gradients: tuple[Phase, Callable[..., Any]] | None = None  # compiled for a phase
        self.rungs: dict[int, int] = {}  # step -> share, see `Rungs`
        self.cut: Callable[[int, float], bool] = lambda share, score: False
        self.loss: float | None = None
        self.found_finite = self.step  # the last step at which the state was looked at
        self.pending: list[tuple[int, dict[str, jax.Array]]] = []  # (steps, metrics) since a row
        self.metrics: dict[str, float | int] = {}
        self.predictions: dict[str, Predictions] = {}

    def run(self, stop_asked: Callable[[], bool]) -> str:
        """Go through the steps, then the final evaluations."""
        settings = self.settings
        score = None
        while self.step < settings.steps:
            self._advance()
            ends, rung = self.step == settings.steps, self.rungs.get(self.step)
            if ends or self.step % settings.log_every == 0:
                self._log_training()
            due = ends or rung or self.step % settings.evaluate_every == 0
            if self.experiment.validation and due:
                self._require_finite()
                score = self._validate(self.experiment.validation)
            due = ends or rung or self.step % settings.checkpoint_every == 0
            if due or self.step in settings.keep_at:
                self._checkpoint(score)
                if rung and score is not None and self.cut(rung, score):
                    return "interrupted"
                score = None
            if not ends and stop_asked():
                self._checkpoint(score)
                return "interrupted"
        if self.experiment.validation and not self.metrics:  # cut after the last step, before here
            self._evaluate(self.experiment.validation, "validating")
        for split in self.experiment.final:
            self._evaluate(split, "testing")
        return "finished"

    def _next_event(self) -> int:
        """Return the step at which the loop has something else to do, at most one call away."""
        settings = self.settings
        periods = [settings.log_every, settings.checkpoint_every]
        if self.experiment.validation:
            periods.append(settings.evaluate_every)
        ahead = min(period - self.step % period for period in periods)
        ahead = min(ahead, self.experiment.phase_at(self.step).ends - self.step)
        stops = [*settings.keep_at, *self.rungs]
        if settings.profile:
            stops += [settings.profile[0] - 1, settings.profile[1]]
        ahead = min([ahead, *(step - self.step for step in stops if step > self.step)])
        return min(self.step + min(ahead, settings.steps_per_call), settings.steps)

    def _advance(self) -> None:
        """Call the compiled loop once, at most one call ahead of the device."""
        start = time.monotonic()
        first_call = self.experiment.phase_at(self.step) is not self.phase
        if first_call:
            self._report("compiling")
            self._enter(self.experiment.phase_at(self.step))
        feed = self.experiment.feed
        count = self._next_event() - self.step
        inputs = feed.steps(self.step, count, self.settings.steps_per_call)
        called = self.state, feed.source, inputs, np.int32(count)
        self._start_profile()
        if first_call or feed.batches_per_second is None or self.rates:
            self.state, metrics = self.call(*called)
        else:
            self.state, metrics, seconds = timed(self.call, *called)
            size = self.settings.batch_size
            self.rates = Rates(feed.batches_per_second * size, count * size / seconds)
            self.tell_rates(self.rates)
        if first_call:
            self.compile_seconds += time.monotonic() - start
            start = time.monotonic()
        if self.pending:
            jax.block_until_ready(self.pending[-1][1])
            self.finished_images = self.trained_images
        self.pending.append((count, metrics))
        if self.observer is not None:
            self.last_inputs = inputs, count
        self.step += count
        self.trained_images += count * self.settings.batch_size
        self._stop_profile(inputs)
        self.training_seconds += time.monotonic() - start
        self._report("training")

    def _start_profile(self) -> None:
        """Start the profiler before the first step to profile."""
        profile = self.settings.profile
        if self.profiler and profile and self.step == profile[0] - 1:
            if self.pending:
                jax.block_until_ready(self.pending[-1][1])
            self.profiler.start()
            self.profiling = True

    def _stop_profile(self, inputs: Any) -> None:
        """Stop the profiler after the last step to profile."""
        if self.profiling and self.settings.profile and self.step == self.settings.profile[1]:
            jax.block_until_ready(self.pending[-1][1])
            self.end_profile(lambda: self._program(inputs))

    def end_profile(self, program: Callable[[], str | None] = lambda: None) -> None:
        """Stop the profiler where it is running; also where the steps did not come to their end."""
        if self.profiler and self.profiling:
            self.profiling = False
            self.profiler.stop(self.step, program)

    def _program(self, inputs: Any) -> str | None:
        """Return the text of the compiled program; None if this form of it has none."""
        lower = getattr(self.call, "lower", None)
        if lower is None:
            return None
        called = self.state, self.experiment.feed.source, inputs, np.int32(0)
        return str(lower(*called).compile().as_text())

    def _enter(self, phase: Phase) -> None:
        """Compile a phase; at its first step, with an empty memory for its optimizer."""
        self.phase, self.call = phase, self.experiment.compiled_steps(phase)
        if self.step == phase.begins > 0:
            memory = initial_memory(phase.optimizer, jax.device_get(self.state.params))
            memory = data_parallel.replicate(memory, self.experiment.mesh)
            self.state = self.state.replace(opt_state=memory)

    def _log_training(self) -> None:
        """Fetch the metrics since the row before and add a row of their means."""
        if not self.pending:
            return
        start = time.monotonic()
        fetched = {
            name: np.concatenate([np.asarray(m[name])[:count] for count, m in self.pending])
            for name in self.pending[0][1]
        }
        self.training_seconds += time.monotonic() - start
        self.finished_images = self.trained_images
        first = self.step - sum(count for count, _ in self.pending)
        self.pending = []
        finite = np.isfinite(fetched["loss"])
        if not finite.all():
            raise NotFiniteError(first + int(np.argmin(finite)) + 1, "loss")
        percent = self.experiment.task.percent
        means = {
            f"train/{name}": (100.0 if name in percent else 1.0)
            * float(np.mean(values, dtype=np.float64))
            for name, values in fetched.items()
        }
        self.loss = means["train/loss"]
        rate = self.experiment.learning_rate(self.step - 1)
        self._row({**means, "lr": rate, "images_per_second": self._images_per_second()})

    def _validate(self, split: Split) -> float:
        """Return how bad the split's metric is: less is better, whichever way the task counts."""
        metrics = self._evaluate(split, "validating")
        if self.observer is not None:
            predictions = self.predictions[split.name]
            self.observer.evaluated(self.step, self.state.params, predictions, self._gradients)
        self._row(metrics)
        task = self.experiment.task
        value = float(metrics[f"{split.name}/{task.metric}"])
        return value if task.less_is_better else -value

    def _gradients(self) -> Any:
        """Return the gradients of the last batch with the present parameters."""
        assert self.phase is not None and self.last_inputs is not None
        if self.gradients is None or self.gradients[0] is not self.phase:
            self.gradients = self.phase, self.experiment.compiled_gradients(self.phase)
        inputs, count = self.last_inputs
        state = self.state.replace(opt_state=(), ema=None)
        return self.gradients[1](state, self.experiment.feed.source, inputs, np.int32(count - 1))

    def _evaluate(self, split: Split, phase: str) -> dict[str, float | int]:
        self._report(phase)
        predictions = self.evaluator(self.state.evaluated, split)
        metrics = metrics_of(self.experiment.task, split.name, predictions)
        # What only an earlier evaluation had, as n_unanswered, is not kept.
        others = {k: v for k, v in self.metrics.items() if not k.startswith(f"{split.name}/")}
        self.metrics = others | metrics
        self.predictions[split.name] = predictions
        return metrics

    def _require_finite(self) -> None:
        """Raise if the losses up to here, or what the last update made, are not finite.

        A loss is of the parameters before its update, and so does not tell.
        """
        self._log_training()
        if self.found_finite != self.step:
            if not all_finite((self.state.params, self.state.batch_stats, self.state.ema)):
                raise NotFiniteError(self.step, "parameters")
            self.found_finite = self.step

    def _checkpoint(self, score: float | None) -> None:
        self._require_finite()  # and no row is of steps on both sides of a checkpoint
        # Rows up to a checkpoint are on the disk before it is: none is lost by a crash after it.
        self.record.fsync()
        self.checkpoints.save(self.state, score)

    def _row(self, values: Mapping[str, float | int | None]) -> None:
        examples = self.step * self.settings.batch_size
        self.record.log(
            {
                "step": self.step,
                "epoch": examples / self.experiment.train_size,
                "examples": examples,
                "time": self._seconds(),
                **values,
            }
        )

    def _report(self, phase: str) -> None:
        self.watch(
            Progress(phase, self.step, self.settings.steps, self.loss, self._images_per_second())
        )

    def _images_per_second(self) -> float | None:
        # Of what the device has done: the last call may still be under way.
        return self.finished_images / self.training_seconds if self.finished_images else None

    def _seconds(self) -> float:
        return time.monotonic() - self.began

    def outcome(self, status: str, step: int) -> Outcome:
        return Outcome(
            status=status,
            state=self.state,
            step=step,
            metrics=self.metrics,
            metric=self.experiment.task.metric,
            unit=" %" if self.experiment.task.metric in self.experiment.task.percent else "",
            less_is_better=self.experiment.task.less_is_better,
            predictions=self.predictions,
            seconds=self._seconds(),
            compile_seconds=self.compile_seconds,
            images_per_second=self._images_per_second() or 0.0,
            rates=self.rates,
        )
