"""Queries the states of a sweep's jobs in Slurm, with one call of squeue and one of sacct.

Jobs are named after the folder of the launch, so that they can be found even if the launcher was
killed before recording the job id.
"""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeper.errors import UserError
from deeper.sweep.submission import Submission

ASK_SECONDS = 60.0

# Fixed widths, since names and reasons may contain any separator.
_FIELDS = {
    "ArrayJobID": 20,
    "ArrayTaskID": 20,
    "State": 20,
    "Reason": 60,
    "RestartCnt": 12,
    "Name": 250,
}


@dataclass(frozen=True)
class Job:
    """A job in Slurm's queue.

    Attributes:
        id: job id with the array task, such as 12_3.
        state: PENDING, RUNNING, COMPLETING, ...
        reason: why it is pending.
        restarts: number of requeues.
    """

    id: str
    state: str
    reason: str
    restarts: int


def waiting_and_running(submissions: Iterable[Submission]) -> dict[tuple[str, int], Job]:
    """Return the jobs in the queue by folder and index of their submissions.

    Raises:
        UserError: squeue is missing, or Slurm does not answer.
    """
    folders = {Path(each.sweep).name: each.sweep for each in submissions}
    if not folders:
        return {}
    wanted = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    answer = ask(["squeue", "-h", "-r", f"--name={','.join(folders)}", "-O", wanted])
    jobs: dict[tuple[str, int], Job] = {}
    for line in answer.splitlines():
        values, begin = {}, 0
        for name, width in _FIELDS.items():
            values[name] = line[begin : begin + width].strip()
            begin += width
        if values["Name"] not in folders:
            continue
        in_array = values["ArrayTaskID"].isdigit()
        task = int(values["ArrayTaskID"]) if in_array else 0
        number = values["ArrayJobID"]
        jobs[folders[values["Name"]], task] = Job(
            id=f"{number}_{task}" if in_array else number,
            state=values["State"],
            reason=values["Reason"],
            restarts=int(values["RestartCnt"] or 0),
        )
    return jobs


def ended(jobs: Sequence[str]) -> dict[str, str]:
    """Return the final states of jobs by job id; empty without accounting."""
    if not jobs:
        return {}
    arrays = sorted({job.partition("_")[0] for job in jobs})
    try:
        answer = ask(["sacct", "-n", "-P", "-X", "-o", "JobID,State", "-j", ",".join(arrays)])
    except UserError:
        return {}
    pairs = (line.split("|") for line in answer.splitlines())
    return {pair[0]: pair[1].split()[0] for pair in pairs if len(pair) == 2 and pair[1]}


def largest_array() -> int:
    """Return the largest number of tasks of a job array.

    Raises:
        UserError: scontrol is missing, or Slurm does not answer.
    """
    limit = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask(["scontrol", "show", "config"]), re.M)
    # Task numbers are from 0 to below the limit; 0 disables job arrays.
    return max(int(limit[1]), 1) if limit else 1001  # Slurm's default


def cancel(jobs: Sequence[Job]) -> None:
    """Cancel jobs; running jobs are asked for a checkpoint and then end.

    Raises:
        UserError: Slurm refuses.
    """
    running = [job.id for job in jobs if job.state == "RUNNING"]
    others = [job.id for job in jobs if job.state != "RUNNING"]
    if others:
        ask(["scancel", *others])
    if running:
        # Signal only the steps: at the end of the batch script Slurm kills remaining processes.
        ask(["scancel", "--signal=TERM", *running])


def ask(command: Sequence[str]) -> str:
    """Return the output of a Slurm command.

    Raises:
        UserError: the command is missing, fails, or does not end.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ASK_SECONDS, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise UserError(
            f"There is no {command[0]} here: go to a machine of the cluster that has Slurm's "
            "commands."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{command[0]} has not answered for {ASK_SECONDS:.0f} s: is the cluster's controller "
            "down? Try again later."
        ) from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise UserError(f"{command[0]}: {words[-1] if words else f'status {done.returncode}'}")
    return done.stdout
