"""Divides this machine's cores or GPUs among the runs of a sweep."""

import os
import subprocess
from dataclasses import dataclass, field

from deeper.errors import UserError
from deeper.platform_support import core_count, cores
from deeper.xla_flags import only_cpu

MOST_JOBS = 8
VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Share:
    """Part of a machine.

    Attributes:
        cores: CPU cores; empty for no restriction.
        environment: environment variables that restrict a process to its GPUs.
    """

    cores: frozenset[int] = frozenset()
    environment: dict[str, str] = field(default_factory=dict)


def shares(jobs: int | None, devices: int | None, arms: int) -> list[Share]:
    """Divide this machine among simultaneous arms.

    Args:
        jobs: number of simultaneous arms; by default one per core up to 8 on a CPU (two runs with
            one core each train faster than one with both), and with GPUs as many as ``devices``
            allows.
        devices: GPUs per arm; None for all GPUs.
        arms: number of arms to run.

    Raises:
        UserError: there are not enough GPUs.
    """
    gpus = [] if only_cpu() else visible_gpus()
    if not gpus:
        limit = jobs or (min(core_count(), MOST_JOBS) if only_cpu() else 1)
        return _cores(max(1, min(limit, arms)))
    jobs = jobs or (1 if devices is None else len(gpus) // devices)
    each = devices or len(gpus) // max(1, jobs)
    if each < 1 or jobs * each > len(gpus) or jobs < 1:
        raise UserError(
            f"{jobs} arms at a time with {max(1, each)} GPUs each are more than the {len(gpus)} "
            "that are visible here: lower jobs or train.devices."
        )
    if jobs == 1 and devices is None:
        return [Share()]
    return [
        Share(environment={VISIBLE: ",".join(gpus[i * each : (i + 1) * each])})
        for i in range(max(1, min(jobs, arms)))
    ]


def visible_gpus() -> list[str]:
    """Return the GPUs that are visible to child processes, by their CUDA names."""
    chosen = os.environ.get(VISIBLE)
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [
        str(number) for number, _ in enumerate(x for x in listed.splitlines() if x[:4] == "GPU ")
    ]


def _cores(jobs: int) -> list[Share]:
    """Divide this process's cores among the jobs; no restriction if there are too few."""
    available = cores()
    if jobs == 1 or jobs > len(available):
        return [Share() for _ in range(jobs)]
    return [Share(frozenset(available[i::jobs])) for i in range(jobs)]
