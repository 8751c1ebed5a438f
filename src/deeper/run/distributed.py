"""Starts and ends training with several processes.

``srun`` starts one process per task, and JAX identifies them from Slurm's environment. Elsewhere
``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` identify them. Only the
first process writes the record; all read data, compute, and write checkpoints.
"""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from deeper.errors import UserError
from deeper.train.data_parallel import Agreement

JOIN_SECONDS = 300
HEARTBEAT_SECONDS = 60  # without a heartbeat for this long, the other processes end, too
# Parts of the messages that JAX's libraries raise when another process is gone.
SIGNS_OF_LOSS = ("Gloo", "NCCL", "oordination service", "heartbeat")
JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join(environ: Mapping[str, str] = os.environ) -> None:
    """Connect to the other processes of this run, if any; call it before JAX looks for devices.

    JAX installs a handler for SIGTERM here; install other handlers afterwards.

    Raises:
        UserError: the environment is incomplete, or the others do not come.
    """
    arguments = _arguments(environ)
    if arguments is None:
        return
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except RuntimeError as error:
        raise UserError(
            f"The processes of this run did not find each other in {JOIN_SECONDS} s "
            f"({str(error).splitlines()[0][:200]}): were all of them started, and can they reach "
            "the first one's host?"
        ) from error


def _arguments(environ: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the arguments of ``jax.distributed.initialize``; None for a single process."""
    present = [name for name in JAX_VARIABLES if environ.get(name)]
    if present:
        if len(present) < len(JAX_VARIABLES):
            missing = set(JAX_VARIABLES) - set(present)
            raise UserError(
                f"{', '.join(present)} without {', '.join(missing)}: give all of them, or none."
            )
        address, count, number = (environ[name] for name in JAX_VARIABLES)
        if int(count) == 1:
            return None
        return {
            "coordinator_address": address,
            "num_processes": int(count),
            "process_id": int(number),
            "cluster_detection_method": "deactivate",
        }
    if "SLURM_STEP_NODELIST" not in environ or int(environ.get("SLURM_NTASKS", 1)) == 1:
        return None
    return {"cluster_detection_method": "slurm", "local_device_ids": _gpus(environ)}


def _gpus(environ: Mapping[str, str]) -> list[int] | None:
    """Return the local device ids of a Slurm task; None for JAX's choice.

    JAX gives each task the GPU with its local task id. That is wrong for one task per node with all
    GPUs, and for tasks that only see their own GPUs.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    count = len(visible.split(",")) if visible else int(environ.get("SLURM_GPUS_ON_NODE") or 0)
    if not count:
        return None
    here = environ["SLURM_STEP_TASKS_PER_NODE"].split(",")[0].split("(")[0]  # such as 2(x4)
    tasks, task = int(here), int(environ["SLURM_LOCALID"])
    if count % tasks or "SLURM_GPUS_PER_TASK" in environ:
        return list(range(count))
    share = count // tasks
    return list(range(task * share, (task + 1) * share))


def count() -> int:
    """Return the number of processes."""
    return jax.process_count()


def first() -> bool:
    """Return whether this process writes the record."""
    return jax.process_index() == 0


def agreed_by(asked: Callable[[], bool], mesh: Mesh) -> Callable[[], bool]:
    """Return a function that becomes true in all processes at the same call, once one of them asks.

    Args:
        asked: whether this process asks.
        mesh: the devices.
    """
    if count() == 1:
        return asked
    agreement = Agreement(mesh)
    return lambda: agreement(asked())


def process_is_gone(error: BaseException) -> bool:
    """Return whether an exception was caused by the end of another process."""
    return any(sign in str(error)[:200] for sign in SIGNS_OF_LOSS)


def leave(status: int) -> None:
    """End this process immediately, if it is one of several, so that the others notice.

    An orderly exit would wait for the timeouts of the other processes.
    """
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
