"""The state of each run of a sweep, from its files and one query of Slurm's queue.

The launcher is not queried, since it may have ended or be on another machine.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deeper.config.command_line import command, override
from deeper.config.schema import RunConfig
from deeper.errors import ExitCode
from deeper.record.atomic_files import read_json
from deeper.record.lock import holder_of
from deeper.record.schema import CONFIG, ENVIRONMENT, RESULT, ROWS, RUN_LOG, test_result
from deeper.sweep import slurm_queue
from deeper.sweep.slurm_queue import Job
from deeper.sweep.slurm_task import last_line
from deeper.sweep.submission import Submission, age, read_submission

# In the order of the display.
WORDS = (
    "failed", "diverged", "lost", "stopped", "cancelled",
    "running", "starting", "ending", "requeued", "waiting", "finished",
)  # fmt: skip
ALIVE = ("running", "starting", "ending", "requeued", "waiting")
FAILED_STATES = ("failed", "diverged", "lost")
TO_RESUME = ("failed", "lost", "stopped", "cancelled")
SUBMITTING_SECONDS = 120.0
_TAIL = 8192


@dataclass(frozen=True)
class State:
    """The state of a run.

    Attributes:
        directory: its run directory.
        name: display name.
        word: one of `WORDS`.
        remark: why it waits, the failure, or the result on the test split.
        step: the last recorded step.
        steps: number of steps; None before the first start.
        images_per_second: training speed.
        seconds_left: remaining training time at that speed.
        starts: number of starts.
        job: job or process.
        submission: None for a run without a launcher.
    """

    directory: Path
    name: str
    word: str
    remark: str = ""
    step: int = 0
    steps: int | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    starts: int = 0
    job: str = ""
    submission: Submission | None = None

    def plain(self) -> dict[str, Any]:
        """Return plain values, for ``format=json``."""
        values = {**vars(self), "directory": str(self.directory)}
        submission = values.pop("submission")
        return values | {
            "launcher": None if submission is None else submission.launcher,
            "submitted": None if submission is None else submission.submitted,
        }


def over(state: State) -> bool:
    """Whether a run has ended and will not be restarted automatically."""
    return state.word not in ALIVE


def runs_in(study: Path) -> list[Path]:
    """Return the run directories of a study."""
    return sorted(file.parent for file in study.glob(f"*/{CONFIG}"))


def status_command(config: RunConfig, directories: Sequence[Path] = ()) -> str:
    """Return the command that shows the sweep of a run.

    Args:
        config: config of the run.
        directories: directories of the user's YAML files, from the sweep's command.
    """
    words = ["sweep", "status"]
    if config.study:
        words.append(override("study", config.choices.study))
        if config.mode.name != "full":
            words.append(override("mode", config.choices.mode))
    elif config.runs == "runs":
        words.append("study=none")
    if config.runs != "runs":
        words.append(override("runs", config.runs))
    return command(*words, directories=directories)


def states_of(directories: Sequence[Path]) -> list[State]:
    """Return the state of each run.

    Raises:
        UserError: there are Slurm jobs that may not have ended, and squeue cannot be queried.
    """
    submissions = [(directory, read_submission(directory)) for directory in directories]
    unfinished = [s for d, s in submissions if not (d / RESULT).is_file() and s is not None]
    on_slurm = [each for each in unfinished if each.launcher == "slurm"]
    jobs = slurm_queue.waiting_and_running(on_slurm)
    gone = [each for each in on_slurm if (each.sweep, each.index) not in jobs and each.job]
    ended = slurm_queue.ended([str(each.job) for each in gone])
    folders = {each.sweep for each in unfinished if each.launcher == "local"}
    holders = {folder: holder_of(Path(folder)) for folder in folders}
    states = []
    for directory, submission in submissions:
        result = read_json(directory / RESULT)
        name = directory.name if submission is None else submission.name
        state = State(directory, name, "stopped", submission=submission)
        if result is not None:
            state = _with_result(state, result)
        elif submission is None:
            state = _by_hand(state)
        elif submission.launcher == "slurm":
            job = jobs.get((submission.sweep, submission.index))
            state = _of_job(state, submission, job, ended.get(str(submission.job)))
        else:
            state = _of_process(state, submission, holders[submission.sweep] is not None)
        states.append(state if result is not None else _with_progress(state))
    return states


def _with_result(state: State, result: dict[str, Any]) -> State:
    remark = str(result.get("reason") or "")
    if result.get("status") == "finished":
        remark = test_result(result)
    steps = result.get("steps") or 0
    return replace(state, word=str(result["status"]), remark=remark, step=steps, steps=steps)


def _by_hand(state: State) -> State:
    holder = holder_of(state.directory)
    if holder is None:
        return replace(state, remark="not part of a sweep")
    return replace(state, word="running", job=str(holder.pid), remark=f"{holder}, by hand")


def _of_job(state: State, submission: Submission, job: Job | None, accounted: str | None) -> State:
    """Return the state of a run that was submitted to Slurm."""
    if job is not None:
        state = replace(state, job=job.id)
        if job.state == "RUNNING":
            return replace(state, word="running")
        if job.state == "PENDING":
            if job.restarts:
                remark = f"{job.reason}, requeue {job.restarts}"
                return replace(state, word="requeued", remark=remark)
            return replace(state, word="waiting", remark=job.reason)
        return replace(state, word="ending", remark=job.state.lower())
    submission = read_submission(state.directory) or submission  # it may have ended just now
    state = replace(state, job=str(submission.job or ""))
    if submission.job is None and age(submission.submitted) < SUBMITTING_SECONDS:
        return replace(state, word="waiting", remark="being submitted")
    if submission.cancelled or accounted == "CANCELLED":
        return replace(state, word="cancelled")
    if submission.ended is not None or accounted not in (None, "COMPLETED"):
        return _ended(state, submission, f"{accounted}: " if accounted else "")
    return replace(state, word="lost", remark="Slurm does not have its job")


def _of_process(state: State, submission: Submission, launcher: bool) -> State:
    """Return the state of a run with a local launcher, on this machine or another."""
    process = submission.process
    state = replace(state, job="" if process is None else str(process.pid))
    if submission.ended is not None:
        return _ended(state, submission, "")
    if submission.cancelled and not (process and process.alive):
        return replace(state, word="cancelled")
    if process is None:
        if launcher:
            return replace(state, word="waiting", remark="for the launcher")
        return replace(state, remark="its launcher has ended")
    if process.alive:
        return replace(state, word="running" if launcher else "ending")
    if launcher:  # on another machine, or its end has not been recorded yet
        return replace(state, word="ending" if process.here else "running")
    return replace(state, word="lost", remark="its process is gone")


def _ended(state: State, submission: Submission, account: str) -> State:
    ended = submission.ended or {"code": None, "reason": None}
    if submission.cancelled:
        return replace(state, word="cancelled")
    if ended["code"] == ExitCode.INTERRUPTED:
        return replace(state, remark="at a checkpoint")
    reason = ended["reason"] or account + last_line(state.directory / RUN_LOG)
    return replace(state, word="failed", remark=reason)


def _with_progress(state: State) -> State:
    """Add the progress of the run from its record."""
    environment = read_json(state.directory / ENVIRONMENT)
    if environment is None:
        return replace(state, word="starting") if state.word == "running" else state
    run = environment.get("run") or {}
    step, rate = _last_row(state.directory / ROWS)
    steps = run.get("steps")
    left = None
    if rate and steps and state.word == "running":
        left = max(0, steps - step) * run["batch_size"] / rate
    starts = 1 + len(environment.get("earlier") or [])
    return replace(
        state, step=step, steps=steps, images_per_second=rate, seconds_left=left, starts=starts
    )


def _last_row(rows: Path) -> tuple[int, float | None]:
    """Return the last step of a record, and the last speed near its end."""
    try:
        with rows.open("rb") as stream:
            stream.seek(max(0, rows.stat().st_size - _TAIL))
            lines = stream.read().splitlines()
    except OSError:
        return 0, None
    step, rate = 0, None
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # an incomplete line at either end
        if isinstance(row, dict):
            step = max(step, row.get("step") or 0)
            rate = row.get("images_per_second") or rate
    return step, rate
