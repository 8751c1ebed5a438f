"""Checkpoints: asynchronous, atomic; the last two, the best one and chosen ones (Orbax).

A run has one writer, `Checkpoints`, which owns the directory: it removes old checkpoints and what a
cut left half written, and puts damaged ones aside. Others use `CheckpointReader`, which changes
nothing on the disk and may read while the run writes.
"""

import glob
import json
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
from deeper.train import data_parallel
from deeper.train.state import State

_ERROR = "validation_error"
_ITEM = "default"  # Orbax's name of what is saved without one
_UNKNOWN_ERROR = 1e9  # a checkpoint made between evaluations is never the best


class Checkpoints:
    """The writer of one run's checkpoints; there may be only one at a time.

    Args:
        directory: where they are; made if missing.
        mesh: the devices that a restored state goes to.
        keep: steps whose checkpoints are never removed.

    Raises:
        UserError: the directory has a name that TensorStore cannot write to.
    """

    def __init__(self, directory: Path, mesh: Mesh, keep: Sequence[int] = ()):
        # What fails is raised here, and said once; Orbax logs each thread's traceback besides.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._failed = False
        self.directory = directory.absolute()
        _require_writable(self.directory)
        self._sharding = NamedSharding(mesh, P())
        # Orbax's manager does not start where a checkpoint's metrics are damaged.
        self._damaged = [(step, self._put_aside(step)) for step in _without_metrics(self.directory)]
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            _Literal(self.directory),
            item_handlers=ocp.StandardCheckpointHandler(),  # without, it knows no shapes
            options=ocp.CheckpointManagerOptions(
                best_fn=lambda metrics: metrics[_ERROR],
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(2),
                        policies.BestN(
                            get_metric_fn=lambda metrics: metrics[_ERROR], reverse=True, n=1
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

    def save(self, state: State, validation_error: float | None) -> None:
        """Begin to write a checkpoint; it appears whole, later, or not at all.

        Args:
            state: copied before this returns.
            validation_error: in per cent, if just measured.

        Raises:
            UserError: this write, or the one before it, failed (a full disk, say).
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        known = validation_error is not None and math.isfinite(validation_error)
        error = validation_error if known else _UNKNOWN_ERROR
        with self._disk_errors():
            self._manager.save(
                step, args=ocp.args.StandardSave(_as_dict(state)), metrics={_ERROR: error}
            )

    def restore(self, template: State, step: int | None = None) -> State:
        """Read a checkpoint.

        Args:
            template: a state of the same shapes.
            step: which one; the last by default.

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
        """Write a net's variables alone, as the checkpoint of step 0, and wait for it.

        Raises:
            UserError: the write failed.
        """
        tree = {"step": np.zeros((), np.int32), **variables}
        with self._disk_errors():
            self._manager.save(
                0, args=ocp.args.StandardSave(tree), metrics={_ERROR: _UNKNOWN_ERROR}
            )
            self._manager.wait_until_finished()

    def restore_last_good(self, template: State, warn: Callable[[str], None]) -> State | None:
        """Read the newest checkpoint that can be read; None if there is none.

        A damaged one is moved aside to ``checkpoints-damaged/`` and reported.
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
            except Exception as error:  # whatever the readers below make of damaged bytes
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
        """Move a checkpoint to where it is in nobody's way; return where that is."""
        aside = self.directory.with_name(self.directory.name + "-damaged")
        target, number = aside / str(step), 1
        while target.exists():
            number += 1
            target = aside / f"{step}-{number}"
        data_parallel.everywhere(True)  # all have chosen the name before it is taken
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            (self.directory / str(step)).rename(target)
        data_parallel.everywhere(True)  # it is moved before anyone looks again
        return target

    def wait(self) -> None:
        """Wait for the write under way and raise what went wrong with it as a UserError."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and release the manager's threads.

        An error that `save` or `wait` has raised already is not raised again.
        """
        try:
            self._manager.close()
        except Exception:
            if not self._failed:
                raise

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn a failed write into a sentence; the previous checkpoints are untouched by it."""
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
    """Reads the checkpoints of a run, which may be writing: nothing on the disk is changed.

    Args:
        directory: where they are; it may be missing.
        mesh: the devices that restored variables go to.
    """

    def __init__(self, directory: Path, mesh: Mesh):
        self.directory = directory.absolute()
        self._sharding = NamedSharding(mesh, P())

    @property
    def steps(self) -> list[int]:
        """Steps of the whole checkpoints that are there now, oldest first."""
        # A checkpoint under way has a name with more in it, until it is whole and is renamed.
        return sorted(int(p.name) for p in self.directory.glob("*/") if p.name.isdecimal())

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation error, the latest of equals."""
        errors = {step: _error_of(self.directory / str(step)) for step in self.steps}
        known = {s: e for s, e in errors.items() if e is not None and e < _UNKNOWN_ERROR}
        return min(known, key=lambda step: (known[step], -step), default=None)

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Read what evaluation uses of a checkpoint, whatever else it holds.

        Returns:
            params and batch_stats: the moving averages where the run keeps them.

        Raises:
            UserError: the checkpoint cannot be read, or holds NaN or infinity.
        """
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what fails is said once, here
        try:
            with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
                place = self.directory / str(step) / _ITEM
                known: Any = reader.metadata(place).item_metadata
                abstract = jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(
                        leaf.shape, leaf.dtype, sharding=self._sharding
                    ),
                    dict(known),
                )
                tree: Any = reader.restore(place, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # whatever the readers below make of damaged bytes
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
    """Whether no value is NaN or infinite, of arrays that are whole on this process's devices.

    Looked at on the host: a program that asks this of a deep net takes XLA seconds to compile, a
    copy of its parameters milliseconds.
    """
    return all(
        # Not the array itself, which would keep its copy, and could not be donated.
        np.isfinite(np.asarray(leaf.addressable_data(0))).all()
        for leaf in jax.tree.leaves(tree)
    )


def _as_dict(state: State) -> dict[str, Any]:
    """Return the state as a tree of arrays; a run without averages stores none."""
    tree = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return {name: value for name, value in tree.items() if value is not None}


def _without_metrics(directory: Path) -> list[int]:
    """Return the steps of the checkpoints whose file of metrics is there and cannot be read."""
    places = [file.parents[1] for file in directory.glob("*/metrics/metrics")]
    whole = [place for place in places if place.name.isdecimal()]
    return sorted(int(place.name) for place in whole if _error_of(place) is None)


def _error_of(checkpoint: Path) -> float | None:
    """Return the validation error that a checkpoint was saved with; None if it cannot be read."""
    try:
        return float(json.loads((checkpoint / "metrics" / "metrics").read_bytes())[_ERROR])
    except (OSError, ValueError, TypeError, KeyError):
        return None
