"""Checkpoints (Orbax), written asynchronously and atomically.

The last two, the best one and chosen steps are kept. A run has one writer, `Checkpoints`, which
owns the directory: it removes old and incomplete checkpoints, and moves damaged ones aside. All
others use `CheckpointReader`, which changes nothing on disk and may read while the run writes.
"""

import glob
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils.epath.gpath import PosixGPath
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError
from deeper.record.checkpoint_files import METRIC, UNKNOWN, best_step_in, metric_of, steps_in
from deeper.train import data_parallel
from deeper.train.state import State

_ITEM = "default"  # name under which Orbax saves an item without a name


class Checkpoints:
    """The writer of one run's checkpoints; there may be only one at a time.

    Args:
        directory: directory of the checkpoints; created if it is missing.
        mesh: devices to which a restored state is copied.
        keep: steps whose checkpoints are never removed.

    Raises:
        UserError: the directory has a name that TensorStore cannot write to.
    """

    def __init__(self, directory: Path, mesh: Mesh, keep: Sequence[int] = ()):
        # Errors are raised here; Orbax would log the traceback of each thread as well.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._failed = False
        self.directory = directory.absolute()
        _require_writable(self.directory)
        self._sharding = NamedSharding(mesh, P())
        # Orbax's manager does not start if the metrics of a checkpoint are damaged.
        self._damaged = [(step, self._put_aside(step)) for step in _without_metrics(self.directory)]
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            _Literal(self.directory),
            item_handlers=ocp.StandardCheckpointHandler(),  # without, it knows no shapes
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics[METRIC],
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(2),
                        policies.BestN(
                            get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1
                        ),
                        policies.CustomSteps(keep),
                    ]
                ),
                cleanup_tmp_directories=True,
            ),
        )

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, to_minimise: float | None) -> None:
        """Start to write a checkpoint, which appears atomically at the end of the write.

        Args:
            state: the state, which is copied before this returns.
            to_minimise: the task's metric on the validation split, if it was measured at this
                step; with the other sign where greater is better.

        Raises:
            UserError: this write, or the one before it, failed, for example on a full disk.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        known = to_minimise is not None and math.isfinite(to_minimise)
        value = to_minimise if known else UNKNOWN
        with self._disk_errors():
            self._manager.save(
                step, args=ocp.args.StandardSave(_as_dict(state)), metrics={METRIC: value}
            )

    def restore(self, template: State, step: int | None = None) -> State:
        """Read a checkpoint.

        Args:
            template: a state with the same shapes.
            step: step of the checkpoint; the last one by default.

        Raises:
            ValueError: it does not exist or cannot be read.
        """
        step = self._manager.latest_step() if step is None else step
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._sharding),
            _as_dict(template),
        )
        restored = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        return template.replace(**restored)

    def save_variables(self, variables: dict[str, Any]) -> None:
        """Write only the variables of a net, as the checkpoint of step 0, and wait for the write.

        Raises:
            UserError: the write failed.
        """
        tree = {"step": np.zeros((), np.int32), **variables}
        with self._disk_errors():
            self._manager.save(0, args=ocp.args.StandardSave(tree), metrics={METRIC: UNKNOWN})
            self._manager.wait_until_finished()

    def restore_last_good(self, template: State, warn: Callable[[str], None]) -> State | None:
        """Read the newest checkpoint that is readable in all processes; None if there is none.

        Damaged checkpoints are moved to ``checkpoints-damaged/`` and reported.

        Args:
            template: a state with the same shapes.
            warn: called with a message for each damaged checkpoint.
        """
        for step, target in self._damaged:
            warn(
                f"The checkpoint of step {step} was moved to {target}: its file of metrics is "
                "damaged; going back to the one before"
            )
        for step in reversed(self.steps):
            failed: Exception | None = None
            try:
                restored = self.restore(template, step)
            except Exception as error:  # Orbax and its readers raise many types on damaged files
                failed = error
            if data_parallel.everywhere(failed is None):
                return restored
            target = self._put_aside(step)
            self._manager.reload()
            text = str(failed or "in another process").strip()
            reason = text.splitlines()[0][:200] if text else ""
            warn(
                f"The checkpoint of step {step} cannot be read and was moved to {target}; "
                f"going back to the one before ({type(failed).__name__}: {reason})"
            )
        return None

    def _put_aside(self, step: int) -> Path:
        """Move a damaged checkpoint to ``checkpoints-damaged/``; return its new path."""
        aside = self.directory.with_name(self.directory.name + "-damaged")
        target, number = aside / str(step), 1
        while target.exists():
            number += 1
            target = aside / f"{step}-{number}"
        data_parallel.everywhere(True)  # all processes have chosen the name before it is used
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            (self.directory / str(step)).rename(target)
        data_parallel.everywhere(True)  # the move is complete before any process continues
        return target

    def wait(self) -> None:
        """Wait for the present write to finish; raise a UserError if it failed."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the present write, and stop the threads of Orbax.

        An error that `save` or `wait` has already raised is not raised again.
        """
        try:
            self._manager.close()
        except Exception:
            if not self._failed:
                raise

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Raise a UserError for a failed write, which leaves the previous checkpoints intact."""
        try:
            yield
        except Exception as error:
            self._failed = True
            text = str(error)
            full = any(sign in text for sign in ("No space left", "RESOURCE_EXHAUSTED"))
            too_large = "File too large" in text
            if not full and not too_large and not isinstance(error, OSError):
                raise
            reason = text.strip().splitlines()[0][:200]
            if full:
                reason = "the disk is full"
            elif too_large:
                reason = "no file may be so large here (see `ulimit -f`)"
            raise UserError(
                f"A checkpoint could not be written to {self.directory}: {reason}. The previous "
                "one is good; make room and repeat the command to go on from it."
            ) from error


class CheckpointReader:
    """Reads the checkpoints of a run, which may be running, without changing anything on disk.

    Args:
        directory: directory of the checkpoints; it may be missing.
        mesh: devices to which restored variables are copied.
    """

    def __init__(self, directory: Path, mesh: Mesh):
        self.directory = directory.absolute()
        self._sharding = NamedSharding(mesh, P())

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return steps_in(self.directory)

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint that is best on the validation split; of equals, the latest."""
        return best_step_in(self.directory)

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Read the variables that evaluation uses.

        Returns:
            params and batch_stats: the moving averages if the run has them.

        Raises:
            UserError: the checkpoint cannot be read, or holds NaN or infinity.
        """
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are raised here instead
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                place = self.directory / str(step) / _ITEM
                metadata: Any = reader.metadata(place).item_metadata
                abstract = jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(
                        leaf.shape, leaf.dtype, sharding=self._sharding
                    ),
                    dict(metadata),
                )
                tree: Any = reader.restore(place, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # Orbax and its readers raise many types on damaged files
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            raise UserError(
                f"The checkpoint of step {step} in {self.directory} cannot be read "
                f"({type(error).__name__}: {reason})."
            ) from error
        params, batch_stats = tree.get("ema") or (tree["params"], tree.get("batch_stats", {}))
        variables = {"params": params, "batch_stats": batch_stats}
        if not all_finite(variables):
            raise UserError(
                f"The checkpoint of step {step} in {self.directory} holds NaN or infinity: the run "
                "had diverged. Take an earlier one with checkpoint=STEP, if it has any."
            )
        return variables


class _Literal(PosixGPath):
    """A directory as Orbax takes it, whose name is no pattern, whatever characters are in it.

    Orbax joins the parts of a checkpoint by ``glob``, in which epath takes the whole path for a
    pattern: in a directory such as ``runs [v3]`` it finds none, and leaves a checkpoint that nobody
    can read, without a word.
    """

    def glob(self, pattern: str) -> Iterator["_Literal"]:
        """Yield what fits a pattern below the directory."""
        for found in glob.glob(f"{glob.escape(str(self))}/{pattern}"):  # noqa: PTH207 - its kin
            yield type(self)(found)


def _require_writable(directory: Path) -> None:
    """Refuse a directory that TensorStore would not find, or take for another one.

    It reads paths as UTF-8, a backslash as a slash, and a colon before a slash as a scheme.

    Raises:
        UserError: it is such a one.
    """
    try:
        str(directory).encode()
        odd = "\\" in str(directory) or any(part.endswith(":") for part in directory.parts)
    except UnicodeEncodeError:
        odd = True
    if odd:
        raise UserError(
            f"No checkpoint can be written to {directory}: its name has a backslash, a colon at "
            "the end of a part, or bytes that are no UTF-8. Choose another place: runs=DIRECTORY, "
            "or out=DIRECTORY of `deeper weights`."
        )


def all_finite(tree: Any) -> bool:
    """Return whether all values of replicated arrays are finite (neither NaN nor infinity).

    The check runs on the host: compiling it for a deep net takes XLA seconds, copying the
    parameters takes milliseconds.
    """
    return all(
        # Not np.asarray(leaf), which caches a copy in the array, so that it could not be donated.
        np.isfinite(np.asarray(leaf.addressable_data(0))).all()
        for leaf in jax.tree.leaves(tree)
    )


def _as_dict(state: State) -> dict[str, Any]:
    """Return the state as a dict of trees, without the attributes that are None."""
    tree = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return {name: value for name, value in tree.items() if value is not None}


def _without_metrics(directory: Path) -> list[int]:
    """Return the steps of the complete checkpoints whose file of metrics cannot be read."""
    places = [file.parents[1] for file in directory.glob("*/metrics/metrics")]
    complete = [place for place in places if place.name.isdecimal()]
    return sorted(int(place.name) for place in complete if metric_of(place) is None)
