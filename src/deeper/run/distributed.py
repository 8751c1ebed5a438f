"""Several processes that train one net: how they find each other, and how they part.

``srun`` starts as many processes as there are tasks; JAX reads from Slurm's environment who they
are. Elsewhere ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID`` say so. The
first one alone writes the record; all of them read data, compute, and write checkpoints.
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
HEARTBEAT_SECONDS = 60  # without a sign of life the others end, too
# What JAX's libraries say, by various exceptions, where another process is gone.
SIGNS_OF_LOSS = ("Gloo", "NCCL", "oordination service", "heartbeat")
OWN = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join(environ: Mapping[str, str] = os.environ) -> None:
    """Meet the other processes of this run, if there are any. Before JAX looks for its devices.

    JAX takes SIGTERM for itself here; who wants to hear of it says so afterwards.

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
    """Return what JAX has to be told to join; None for a process that is alone."""
    given = [name for name in OWN if environ.get(name)]
    if given:
        if len(given) < len(OWN):
            raise UserError(
                f"{', '.join(given)} without {', '.join(set(OWN) - set(given))}: give all three of "
                "them, or none."
            )
        address, count, number = (environ[name] for name in OWN)
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
    """Return which of the GPUs that a Slurm task sees are its own; None leaves it to JAX.

    JAX gives each task the GPU of its number on the node: wrong for one task a node with all of
    its GPUs, and for tasks that see their own alone.
    """
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    count = len(visible.split(",")) if visible else int(environ.get("SLURM_GPUS_ON_NODE") or 0)
    if not count:
        return None
    here = environ["SLURM_STEP_TASKS_PER_NODE"].split(",")[0].split("(")[0]  # as in 2(x4)
    tasks, task = int(here), int(environ["SLURM_LOCALID"])
    if count % tasks or "SLURM_GPUS_PER_TASK" in environ:
        return list(range(count))
    share = count // tasks
    return list(range(task * share, (task + 1) * share))


def count() -> int:
    """Return how many there are."""
    return jax.process_count()


def first() -> bool:
    """Whether this is the one that writes the record."""
    return jax.process_index() == 0


def agreed_by(asked: Callable[[], bool], mesh: Mesh) -> Callable[[], bool]:
    """Return what asks all of the processes; it says yes to all of them at the same call.

    Args:
        asked: this process's own.
        mesh: the devices.
    """
    if count() == 1:
        return asked
    agreement = Agreement(mesh)
    return lambda: agreement(asked())


def process_is_gone(error: BaseException) -> bool:
    """Whether an exception says that another process is gone, rather than what is wrong here."""
    return any(sign in str(error)[:200] for sign in SIGNS_OF_LOSS)


def leave(status: int) -> None:
    """End this process at once, if it is one of several, so that the others notice.

    One that waited for the others, as at an orderly end, would wait for their timeouts.
    """
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
