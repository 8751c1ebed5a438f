"""Studies in Python: composes the runs, executes them on this machine, and reports them.

    study("depth_fashion", "mode=quick").run(jobs=2).report()

The run directories are those of ``deeper train -m study=depth_fashion mode=quick``: runs that one
of them has finished are not repeated by the other.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from deeper.config.command_line import override
from deeper.config.compose import configure_sweep
from deeper.config.schema import RunConfig
from deeper.errors import UserError
from deeper.record.schema import CONFIG, RunRecord, read_run
from deeper.run.study_at_wandb import publish_report
from deeper.study.report import Report, make_report
from deeper.sweep.claim import Arm, arms_of
from deeper.sweep.code_snapshot import Code, freeze
from deeper.sweep.events import Tell, quiet
from deeper.sweep.launch import claimed_runs, work_of
from deeper.sweep.local import Sweep
from deeper.sweep.planned import check_study

NAMES_SHOWN = 3  # number of runs named in a message


@dataclass(frozen=True, repr=False)
class Study:
    """A study with its runs, created by `study`.

    Attributes:
        name: name of the study.
        mode: mode of the runs.
        directory: directory of the run directories.
        arms: every arm with every seed.
        display: context manager of a function that is called with each event of
            `deeper.sweep.events`.
        config_directories: directories of the user's YAML files.
    """

    name: str
    mode: str
    directory: Path
    arms: tuple[Arm, ...]
    display: Callable[[], AbstractContextManager[Tell]] = lambda: nullcontext(quiet)
    config_directories: tuple[Path | str, ...] = ()

    def __repr__(self) -> str:
        """Return a short description."""
        finished = sum(arm.status() == "finished" for arm in self.arms)
        return (
            f"Study({self.name}, mode={self.mode}: {len(self.arms)} runs, {finished} finished, "
            f"in {_short(self.directory)})"
        )

    @property
    def configs(self) -> list[RunConfig]:
        """Return the configs of all runs."""
        return [arm.config for arm in self.arms]

    @property
    def runs(self) -> list[RunRecord]:
        """Return the runs that have a directory, in their present state."""
        directories = [arm.directory for arm in self.arms]
        return [read_run(each) for each in directories if (each / CONFIG).is_file()]

    def run(self, jobs: int | None = None) -> "Study":
        """Execute unfinished runs, each in a process of its own; return when all have ended.

        Args:
            jobs: number of simultaneous runs; by default one per core, or per set of GPUs.

        Raises:
            UserError: a run failed or belongs to another launcher; the others were completed. A
                diverged run has a result, and is not a failure.
        """
        first = self.arms[0].config
        if first.mode.dry:
            raise UserError("mode=dry trains nothing: choose another mode.")
        check_study(self.configs, [arm.overrides for arm in self.arms])
        runs = Path(first.runs)
        code = freeze("snapshot", runs, [config.plain() for config in self.configs])
        run_arms(self.arms, runs, jobs, code, self.display)
        return self

    def report(self, wandb: bool = False) -> Report:
        """Write results.csv, figures/ and report.html into the study's directory, as ``deeper
        report`` does.

        Args:
            wandb: write it as a report at Weights & Biases too.

        Raises:
            UserError: no run is finished, or W&B does not take the report.
        """
        definition = self.arms[0].config.plain()["study"]
        report = make_report(self.directory, definition, self.mode, self.config_directories)
        if wandb:
            publish_report(report)
        return report


def run_arms(
    arms: Sequence[Arm],
    runs: Path,
    jobs: int | None,
    code: Code,
    display: Callable[[], AbstractContextManager[Tell]],
) -> None:
    """Execute unfinished runs, each in a process of its own; return when all have ended.

    Args:
        arms: of one sweep.
        runs: root of the run directories.
        jobs: number of simultaneous runs; by default one per core, or per set of GPUs.
        code: the code to run.
        display: see `Study`.

    Raises:
        UserError: a run failed, was stopped or belongs to another launcher; see `Study.run`.
    """
    with claimed_runs(arms, runs, {"jobs": jobs}, code) as taken:
        with display() as tell:
            outcome = Sweep(work_of(taken, jobs), tell).run()
        elsewhere = [f"{arm.name} ({where})" for arm, where in taken.elsewhere]
    diverged = {arm.name for arm in arms if arm.status() == "diverged"}
    failed = [
        f"{failure.name}: {failure.reason}" + (f" ({failure.log})" if failure.log else "")
        for failure in outcome.failed
        if failure.name not in diverged
    ]
    _refuse(failed, len(arms), "failed")
    _refuse(elsewhere, len(arms), "are with another launcher")
    if outcome.unfinished:
        raise UserError(f"{outcome.unfinished} of {len(arms)} runs were stopped.")


def study(name: str, *overrides: str, directories: Sequence[Path | str] = ()) -> Study:
    """Return a study of ``conf/study``, or of the user's own YAML files.

    Args:
        name: name of its file.
        *overrides: as on the command line: ``"mode=quick"``, ``"train.epochs=2"``.
        directories: directories of YAML files of the user's own, searched before ours.

    Raises:
        UserError: there is no such study, or an override is not allowed.
    """
    composed = configure_sweep(override("study", name), *overrides, directories=directories)
    arms = arms_of([config for _, config in composed], [words for words, _ in composed])
    first = arms[0].config
    if first.study is None:
        raise UserError(f"study={name} is no study: name one of conf/study.")
    return Study(
        name=str(first.study.name),
        mode=first.mode.name,
        directory=arms[0].directory.parent,
        arms=tuple(arms),
        config_directories=tuple(directories),
    )


def _short(path: Path) -> Path:
    """Return a path relative to the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _refuse(names: Sequence[str], total: int, what: str) -> None:
    if names:
        more = f"; and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        shown = "; ".join(names[:NAMES_SHOWN])
        raise UserError(f"{len(names)} of {total} runs {what}: {shown}{more}.")
