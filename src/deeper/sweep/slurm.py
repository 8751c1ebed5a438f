"""A sweep as a job array of Slurm, submitted by submitit."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from deeper.cli.status_table import summary, table
from deeper.errors import ExitCode, UserError
from deeper.sweep import slurm_queue
from deeper.sweep.claim import Claim
from deeper.sweep.slurm_task import RunArm
from deeper.sweep.status import FAILED_STATES, State, over, states_of
from deeper.sweep.submission import note, read_submission

POLL_SECONDS = 10.0
# Ours that submitit takes under another name, and those that are dealt with one by one.
_SUBMITITS = {"timeout_min": "time", "tasks_per_node": "ntasks_per_node"}
_OWN = (
    "max_num_timeout", "mem_gb", "setup", "srun_args", "additional_parameters", "array_parallelism",
)  # fmt: skip


def submit(taken: Claim) -> None:
    """Submit arms that were claimed as one array, and write down their jobs.

    Raises:
        UserError: submitit is not there, Slurm refuses, or would read a name as something else.
    """
    _check_names(taken.folder)
    first = read_submission(taken.todo[0].directory)
    assert first is not None
    executor = _executor(taken.folder, first.settings, taken.code.root)
    try:
        jobs = executor.submit_array([RunArm(str(arm.directory)) for arm in taken.todo])
    except Exception as error:  # submitit's own, of sbatch
        words = [line for line in str(error).splitlines() if line.startswith("sbatch:")]
        raise UserError(
            f"Slurm did not take the sweep: {' '.join(words) or error}. Of "
            f"{len(taken.todo)} arms none was submitted."
        ) from error
    taken.jobs.append(jobs[0].job_id.partition("_")[0])
    for arm, job in zip(taken.todo, jobs, strict=True):
        # Where this fails, the job is found by its name.
        note(arm.directory, str(taken.folder), job=job.job_id)


def _check_names(folder: Path) -> None:
    """Refuse names that Slurm reads as something else.

    In the paths of logs a ``%`` begins a placeholder (``%j``, the job) and a backslash turns them
    off; in a list of jobs a comma parts the names, which are those of the folders.
    """
    for character, text in (("%", str(folder)), ("\\", str(folder)), (",", folder.name)):
        if character in text:
            raise UserError(
                f"Slurm would read the {character} in {text} as something else: choose another "
                "study.name or runs=DIRECTORY, without it."
            )


def _executor(folder: Path, settings: dict[str, Any], root: str | None) -> Any:
    """Return submitit's executor for a launch.

    Args:
        folder: of the launch; its name is the jobs'.
        settings: conf/hydra/launcher/slurm.yaml's.
        root: of the snapshot of the code, if there is one.
    """
    try:
        from submitit import SlurmExecutor
    except ImportError as error:
        raise UserError(
            "hydra/launcher=slurm needs submitit: run scripts/setup cluster (pip install "
            "'deeper[cluster]')."
        ) from error
    slurm_queue.ask(["sbatch", "--version"])
    executor = SlurmExecutor(folder, max_num_timeout=settings["max_num_timeout"])
    given = {
        _SUBMITITS.get(key, key): value
        for key, value in settings.items()
        if key not in _OWN and value is not None
    }
    if settings["mem_gb"] is not None:
        given["mem"] = f"{round(settings['mem_gb'] * 1024)}MB"
    srun = list(settings["srun_args"])
    if settings["cpus_per_task"] is not None:
        # srun takes it from the job no longer, since Slurm 22.05.
        srun.append(f"--cpus-per-task={settings['cpus_per_task']}")
    setup = list(settings["setup"])
    if root is not None:
        path = f"{root}/src"
        setup.insert(0, f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}")
    try:
        executor.update_parameters(
            **given,
            job_name=folder.name,
            setup=setup,
            srun_args=srun,
            array_parallelism=settings["array_parallelism"] or 100_000,
            # Slurm starts it again where a node is lost or the job preempted.
            additional_parameters={"requeue": True, **settings["additional_parameters"]},
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"hydra.launcher: {str(error).splitlines()[0]}") from error
    return executor


def follow(taken: Claim, show: str, console: Console, *, wait: bool) -> int:
    """Say what was submitted; with ``wait``, show how it goes until all arms have ended.

    Args:
        taken: the sweep.
        show: command that shows it in any terminal.
        console: where to show it.
        wait: whether to stay.

    Returns:
        The exit status: not 0 if an arm failed or was stopped.
    """
    if taken.todo:
        jobs = " and ".join(taken.jobs)
        console.print(
            f"Slurm job {jobs}: {len(taken.todo)} arms. How it goes: {show}", soft_wrap=True
        )
    for name, reason in taken.failed:
        console.print(f"  {name}: {reason}", soft_wrap=True, markup=False)
    if not wait or not taken.todo:
        return ExitCode.FAILED if taken.failed else ExitCode.FINISHED
    try:
        states = _watch([arm.directory for arm in taken.todo], console)
    except KeyboardInterrupt:
        cancel = show.replace(" status", " cancel", 1)
        console.print(f"The jobs go on. How: {show}\nTo end them: {cancel}", soft_wrap=True)
        return ExitCode.INTERRUPTED
    console.print(summary(states))
    console.print(table(states, everything=False))
    if taken.failed or any(state.word in FAILED_STATES for state in states):
        return ExitCode.FAILED
    return (
        ExitCode.FINISHED
        if all(state.word == "finished" for state in states)
        else ExitCode.INTERRUPTED
    )


def _watch(directories: Sequence[Path], console: Console) -> list[State]:
    """Show how arms stand until all have ended; a line in a log when one more has."""
    ended = -1
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            try:
                states = states_of(directories)
            except UserError as error:  # Slurm's controller is restarted, say
                console.print(str(error), soft_wrap=True)
                time.sleep(6 * POLL_SECONDS)
                continue
            if console.is_terminal:
                live.update(Group(table(states, everything=False), summary(states)), refresh=True)
            now_ended = sum(map(over, states))
            if not console.is_terminal and now_ended != ended:
                console.print(summary(states))
            ended = now_ended
            if ended == len(states):
                return states
            time.sleep(POLL_SECONDS)
