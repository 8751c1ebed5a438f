"""Submits a sweep as a job array of Slurm, with submitit."""

import shlex
from pathlib import Path
from typing import Any

from deeper.errors import UserError
from deeper.sweep import slurm_queue
from deeper.sweep.claim import Claim
from deeper.sweep.slurm_task import RunArm
from deeper.sweep.submission import note, read_submission

# Our settings with another name in submitit, and those that are not options of sbatch.
_SUBMITIT_NAMES = {"timeout_min": "time", "tasks_per_node": "ntasks_per_node"}
_NOT_SBATCH = (
    "max_num_timeout", "mem_gb", "setup", "srun_args", "additional_parameters", "array_parallelism",
)  # fmt: skip


def submit(taken: Claim) -> None:
    """Submit claimed arms as one job array, and record their job ids.

    Raises:
        UserError: submitit is missing, Slurm refuses, or a name has a special meaning in Slurm.
    """
    _check_names(taken.folder)
    first = read_submission(taken.todo[0].directory)
    assert first is not None
    executor = _executor(taken.folder, first.settings, taken.code.root)
    try:
        jobs = executor.submit_array([RunArm(str(arm.directory)) for arm in taken.todo])
    except Exception as error:  # raised by submitit for a failed sbatch
        words = [line for line in str(error).splitlines() if line.startswith("sbatch:")]
        raise UserError(
            f"Slurm did not take the sweep: {' '.join(words) or error}. Of "
            f"{len(taken.todo)} arms none was submitted."
        ) from error
    taken.jobs.append(jobs[0].job_id.partition("_")[0])
    for arm, job in zip(taken.todo, jobs, strict=True):
        # If this fails, the job can be found by its name.
        note(arm.directory, str(taken.folder), job=job.job_id)


def _check_names(folder: Path) -> None:
    """Refuse names with a special meaning in Slurm.

    In paths of logs, ``%`` starts a placeholder (``%j`` is the job id) and a backslash disables
    placeholders. In lists of jobs, commas separate names, which are those of the folders.
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
        folder: folder of the launch, whose name is the name of the jobs.
        settings: settings of conf/hydra/launcher/slurm.yaml.
        root: root of the snapshot of the code, if there is one.
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
    parameters = {
        _SUBMITIT_NAMES.get(key, key): value
        for key, value in settings.items()
        if key not in _NOT_SBATCH and value is not None
    }
    if settings["mem_gb"] is not None:
        parameters["mem"] = f"{round(settings['mem_gb'] * 1024)}MB"
    srun = list(settings["srun_args"])
    if settings["cpus_per_task"] is not None:
        # Since Slurm 22.05 srun does not inherit it from the job.
        srun.append(f"--cpus-per-task={settings['cpus_per_task']}")
    setup = list(settings["setup"])
    if root is not None:
        path = f"{root}/src"
        setup.insert(0, f"export PYTHONPATH={shlex.quote(path)}${{PYTHONPATH:+:$PYTHONPATH}}")
    try:
        executor.update_parameters(
            **parameters,
            job_name=folder.name,
            setup=setup,
            srun_args=srun,
            array_parallelism=settings["array_parallelism"] or 100_000,
            # Slurm restarts it after a lost node or a preemption.
            additional_parameters={"requeue": True, **settings["additional_parameters"]},
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"hydra.launcher: {str(error).splitlines()[0]}") from error
    return executor
