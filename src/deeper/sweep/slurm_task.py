"""The task of a Slurm job: starts the training process of a run, and stops it at checkpoints.

submitit loads `RunArm` from a pickle in each task of the job and calls it. Training is a process of
its own, so that no signal handler of submitit raises inside it. The signals are:

- USR2, at Slurm's time limit (``--signal``) or a preemption: submitit's handler in the task of
  rank 0 calls `RunArm.checkpoint`, which asks the trainer for a checkpoint and waits for its end;
  then submitit requeues the job and exits. In the other tasks that handler does nothing, so this
  module installs another one; these tasks wait until Slurm ends them, since a task that exits early
  may make the step fail before it is requeued.
- TERM, at a preemption or ``scancel``: submitit ignores it. The trainer is asked for a checkpoint.
  A preempted job is then requeued, regardless of the partition's preemption mode; a job that was
  cancelled or asked to stop ends with status 75.
- No signal, if a node is lost: Slurm requeues the job, which continues from its last checkpoint.

Slurm sends these signals to all processes of a step. The trainer accepts TERM repeatedly and
ignores USR2. If this process ends, the broken pipe makes the trainer stop at a checkpoint.

Each task imports this module, so it has no slow imports.
"""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deeper.errors import ExitCode
from deeper.record.schema import RUN_LOG, SUBMISSION
from deeper.sweep.submission import Submission, note, now, read_submission

PIPE_VARIABLE = "DEEPER_PROGRESS_PIPE"
JAX_NOTE = "JAX has removed its internal frames"  # after an error's message
LINGER_SECONDS = 30.0  # after a stop, until Slurm reports the cause


def start_trainer(
    directory: str, submission: Submission, environment: dict[str, str], log: Path, pipe: int
) -> subprocess.Popen[bytes]:
    """Start the process that trains an arm.

    Args:
        directory: the run directory.
        submission: submission of the arm.
        environment: changes to the environment of the submission.
        log: file to which its output is appended.
        pipe: descriptor for its progress messages; closed here.

    Raises:
        OSError: the process cannot be started.
    """
    ours = {PIPE_VARIABLE: str(pipe), "PYTHONUNBUFFERED": "1"}
    try:
        with log.open("ab") as stream:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "deeper", "arm", directory],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=submission.environment | environment | ours,
                cwd=submission.cwd,
                pass_fds=(pipe,),
                # Ctrl-C reaches only the launcher, which forwards it once.
                start_new_session=True,
            )
    finally:
        os.close(pipe)


class RunArm:
    """The task of a job that runs one arm.

    Args:
        directory: the run directory, with its frozen config and its submission.
    """

    _process: subprocess.Popen | None = None
    _asked = False
    _rank, _delay = 0, 90

    def __init__(self, directory: str):
        self.directory = directory

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without attributes of this start of the job."""
        return {"directory": self.directory}

    def __call__(self) -> str:
        """Run the trainer until it ends; return the outcome.

        Raises:
            RuntimeError: training failed; the message is the last line of its log.
        """
        directory = Path(self.directory)
        signal.signal(signal.SIGTERM, self._forward)
        submission = read_submission(directory)
        if submission is None:
            raise RuntimeError(f"{directory} has no {SUBMISSION}: was it moved away?")
        if submission.cancelled:
            return "cancelled"
        self._sweep, self._delay = submission.sweep, submission.settings["signal_delay_s"]
        self._rank = int(os.environ.get("SLURM_PROCID", 0))
        if self._rank == 0:
            note(directory, self._sweep, ended=None)
        log = directory / (f"log-{self._rank}.txt" if self._rank else RUN_LOG)
        self._start(submission, log)
        while not self._has_ended(0.5):
            pass
        return self._end(self._trainer.wait(), log)

    @property
    def _trainer(self) -> subprocess.Popen:
        assert self._process is not None
        return self._process

    def _start(self, submission: Submission, log: Path) -> None:
        self._pipe, write = os.pipe()
        # The trainer inherits the blocked USR2, and is therefore not ended by it.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        self._process = start_trainer(self.directory, submission, {}, log, write)
        if self._rank:
            signal.signal(signal.SIGUSR2, self._forward)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
        if self._asked:  # before the process was started
            self._process.terminate()

    def checkpoint(self) -> Any:
        """Stop the trainer at a checkpoint, so that submitit can requeue the job."""
        import submitit

        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # only once
        self._forward()
        deadline = time.monotonic() + max(5.0, 0.8 * self._delay)
        while self._process and not self._has_ended(0.2) and time.monotonic() < deadline:
            pass
        return submitit.helpers.DelayedSubmission(RunArm(self.directory))

    def _forward(self, *signal_and_frame: Any) -> None:
        """Ask the trainer for a checkpoint."""
        if self._process is not None and not self._asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)
        self._asked = True

    def _has_ended(self, seconds: float) -> bool:
        """Wait for some time, and return whether the trainer has ended.

        It does not reap the process and takes no lock, since a signal handler may interrupt it and
        call it again.
        """
        ready, _, _ = select.select([self._pipe], [], [], seconds)
        if ready and not os.read(self._pipe, 1 << 16):
            time.sleep(min(0.1, seconds))  # closed: the trainer is about to end
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self._trainer.pid, options) is not None

    def _end(self, code: int, log: Path) -> str:
        if code == -signal.SIGTERM and self._asked:
            code = ExitCode.INTERRUPTED  # before it installed its handler
        reason = None
        if code not in (ExitCode.FINISHED, ExitCode.DIVERGED, ExitCode.INTERRUPTED):
            reason = f"ended by signal {-code}" if code < 0 else last_line(log)
        if self._rank == 0:
            ended = {"code": code, "reason": reason, "time": now()}
            note(Path(self.directory), self._sweep, ended=ended)
        if code == ExitCode.INTERRUPTED:
            self._leave()
        if reason is not None:
            raise RuntimeError(reason)
        return "diverged" if code == ExitCode.DIVERGED else "finished"

    def _leave(self) -> None:
        """Exit or requeue after a stop, depending on its cause; the first task decides."""
        deadline = time.monotonic() + LINGER_SECONDS * (2 if self._rank else 1)
        while time.monotonic() < deadline:
            submission = read_submission(Path(self.directory))
            if submission is None or submission.cancelled:
                break
            facts = job_facts()
            if facts.get("JobState") not in ("RUNNING", None):
                break  # cancelled, or requeued by rank 0 or by Slurm
            if self._rank == 0 and facts.get("PreemptTime", "None") not in ("None", "Unknown"):
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], timeout=60)
            time.sleep(2)
        sys.exit(ExitCode.INTERRUPTED)


def job_facts() -> dict[str, str]:
    """Return Slurm's description of this job; empty without an answer."""
    command = ["scontrol", "show", "job", "--oneliner", os.environ.get("SLURM_JOB_ID", "")]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(re.findall(r"(\w+)=(\S*)", answer))


def last_line(log: Path) -> str:
    """Return the last informative line of an arm's log."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            lines = stream.read().decode(errors="replace").splitlines()
    except OSError:
        return "no log"
    said = (line.strip() for line in reversed(lines))
    return next(
        (line[:160] for line in said if line.strip("-") and JAX_NOTE not in line), "nothing"
    )
