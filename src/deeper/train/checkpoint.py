"""Checkpoints: asynchronous, atomic; the last two, the best one and chosen ones (Orbax)."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from deeper.errors import UserError
from deeper.train import parallel
from deeper.train.state import State

_ERROR = "validation_error"
_UNKNOWN_ERROR = 1e9  # a checkpoint made between evaluations is never the best


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: where they are; made if missing.
        mesh: the devices that a restored state goes to.
        keep: steps whose checkpoints are never removed.
    """

    def __init__(self, directory: Path, mesh: Mesh, keep: Sequence[int] = ()):
        # What fails is raised here, and said once; Orbax logs each thread's traceback besides.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self._failed = False
        self.directory = directory.absolute()
        self._sharding = NamedSharding(mesh, P())
        # Orbax's manager does not start where a checkpoint's metrics are damaged.
        self._damaged = [(step, self._put_aside(step)) for step in _without_metrics(self.directory)]
        policies = ocp.checkpoint_managers
        self._manager = ocp.CheckpointManager(
            self.directory,
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

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the lowest validation error, if there is one."""
        return self._manager.best_step()

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
        error = _UNKNOWN_ERROR if validation_error is None else validation_error
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

    def restore_variables(self, step: int) -> dict[str, Any]:
        """Read what evaluation uses of a checkpoint, whatever else it holds.

        Returns:
            params and batch_stats: the moving averages where the run keeps them.

        Raises:
            UserError: the checkpoint cannot be read.
        """
        try:
            known: Any = self._manager.item_metadata(step)
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._sharding),
                dict(known),
            )
            tree: Any = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:  # whatever the readers below make of damaged bytes
            reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
            raise UserError(
                f"The checkpoint of step {step} in {self.directory} cannot be read "
                f"({type(error).__name__}: {reason})."
            ) from error
        params, batch_stats = tree.get("ema") or (tree["params"], tree.get("batch_stats", {}))
        return {"params": params, "batch_stats": batch_stats}

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
            if parallel.everywhere(failed is None):
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
        parallel.everywhere(True)  # all have chosen the name before it is taken
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            (self.directory / str(step)).rename(target)
        parallel.everywhere(True)  # it is moved before anyone looks again
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


def _as_dict(state: State) -> dict[str, Any]:
    """Return the state as a tree of arrays; a run without averages stores none."""
    tree = {name: getattr(state, name) for name in state.__dataclass_fields__}
    return {name: value for name, value in tree.items() if value is not None}


def _without_metrics(directory: Path) -> list[int]:
    """Return the steps of the checkpoints whose file of metrics is there and cannot be read."""
    damaged = []
    for file in directory.glob("*/metrics/metrics"):
        step = file.parts[-3]
        if not step.isdecimal():
            continue  # one that is not whole
        try:
            float(json.loads(file.read_bytes())[_ERROR])
        except (ValueError, TypeError, KeyError):
            damaged.append(int(step))
    return sorted(damaged)
