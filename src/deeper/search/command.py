"""What `deeper search` does, without a terminal: each action as a function of a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.compose import configure
from deeper.config.schema import RunConfig
from deeper.config.search_section import OF_THE_COMMAND, SearchSection
from deeper.errors import ExitCode, UserError
from deeper.search import launch, rate_range
from deeper.search.definition import definition_of, directory_of, take_definition
from deeper.search.report import SearchReport, make_report, update_readme
from deeper.search.reruns import arms_of_reruns, draws_of, read_reruns
from deeper.search.trials import Search, Trials
from deeper.sweep.claim import Arm
from deeper.sweep.code_snapshot import Code, freeze
from deeper.sweep.local import Work

Answer = tuple[int, Search | SearchReport | None]  # exit status, and what is to be shown


@dataclass(frozen=True)
class Request:
    """A command `deeper search`.

    Attributes:
        section: the ``search`` section.
        words: overrides of the command.
        directories: directories of the user's YAML files.
        runs: root of the run directories.
        launcher: local or slurm.
        settings: settings of the launcher.
        code: snapshot or tree.
        readme: a README that is brought up to date, or None.
        train: trains the run of a config in a directory; returns the exit status.
        start: gives arms to the launcher and waits; returns the exit status.
        run_here: runs the work of this machine, with further runs from a supply.
        tell: prints a line.
    """

    section: SearchSection
    words: Sequence[str]
    directories: Sequence[Path]
    runs: Path
    launcher: str
    settings: dict[str, Any]
    code: str
    readme: str | None
    train: Callable[[RunConfig, Path, list[str]], int]
    start: Callable[[list[Arm], Code], int]
    run_here: Callable[[Work, Trials], ExitCode]
    tell: Callable[[str], None]

    @property
    def of_a_run(self) -> list[str]:
        """Return the overrides that `deeper train` knows."""
        return [word for word in self.words if _section_of(word) not in OF_THE_COMMAND]

    @property
    def directory(self) -> Path:
        """Return the directory of the search."""
        return directory_of(configure(*self.of_a_run, directories=self.directories), self.section)

    def opened(self) -> Search:
        """Return the search that is there."""
        return Search.open(self.directory)


def _section_of(word: str) -> str:
    return word.lstrip("+~").partition("=")[0].partition(".")[0]


def answer(action: str, request: Request, total: int, trial: int | None) -> Answer:
    """Do what `deeper search` is asked for.

    Args:
        action: run, finish, lr or status.
        request: the command.
        total: number of trials in all, of run.
        trial: number of a trial, of finish.

    Raises:
        UserError: a mistake in the command.
    """
    if action == "lr":
        status, place = run_range(request)
        if status in (ExitCode.FINISHED, ExitCode.DIVERGED):
            found = rate_range.read_range(place)
            request.tell(str(found))
            request.tell(str(rate_range.write_range(found, place)))
            status = ExitCode.FINISHED
        return status, None
    if action == "finish":
        return finish(request, trial), None
    if action == "status":
        return ExitCode.FINISHED, request.opened()
    return run_search(request, total)


def run_search(request: Request, total: int) -> Answer:
    """Run trials until there are so many, then the reruns; return the status and the report.

    Args:
        request: the command.
        total: number of trials in all.

    Raises:
        UserError: a mistake in the space, or no trial came to its end.
    """
    readme = None if request.readme is None else Path(request.readme)
    if readme is not None and not readme.is_file():
        raise UserError(f"There is no {readme} to update: create it, with its markers.")
    definition, base = definition_of(request.section, request.of_a_run, request.directories)
    draws = draws_of(base, request.section)
    place = directory_of(base, request.section)
    take_definition(place, definition)
    found = Search.open(place)
    code = freeze(request.code, request.runs, [base.plain()])
    trials = launch.trials_of(found, total, request.launcher, request.settings, request.runs, code)
    request.tell(f"{place}: {trials.settled} of {total} trials have ended")
    status = launch.run_trials(trials, request.run_here, request.tell)
    for name, reason in trials.failed:
        request.tell(f"{name}: {reason}")
    if trials.stuck:
        request.tell("So many trials broke in a row that no more were begun: mend their cause.")
        return ExitCode.FAILED, None
    if status == ExitCode.INTERRUPTED:
        return status, None
    arms = arms_of_reruns(found, found.best(), draws)
    rerun = request.start([arm for some in arms.values() for arm in some], code)
    report = make_report(found, read_reruns(found, arms, request.section))
    if readme is not None and report.rerun is not None:
        update_readme(report, readme)
    return max(status, rerun), report


def finish(request: Request, number: int | None) -> int:
    """Train a trial that was cut to its end; return the exit status."""
    arm = launch.arm_to_finish(request.opened(), number)
    return request.start([arm], freeze(request.code, request.runs, [arm.config.plain()]))


def run_range(request: Request) -> tuple[int, Path]:
    """Run the range test of the learning rate; return the exit status and the run's directory."""
    words = rate_range.words_of_range(request.section, request.of_a_run)
    config = configure(*words, directories=request.directories)
    place = rate_range.directory_of_range(request.directory, config)
    return request.train(config, place, words), place
