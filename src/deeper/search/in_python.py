"""Searches in Python, on this machine.

    search("search_fashion", "mode=quick").run(jobs=2).sentences()

The directory of a search is that of ``deeper search study=search_fashion mode=quick``: the one goes
on with what the other has begun.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.command_line import override
from deeper.config.compose import configure_verb
from deeper.config.schema import RunConfig
from deeper.config.search_section import SearchSection, read_search
from deeper.errors import ExitCode, UserError
from deeper.run.train import Display, Silent, train_run
from deeper.search.command import Request, finish, run_range, run_search
from deeper.search.journal import Trial
from deeper.search.rate_range import RateRange, read_range, write_range
from deeper.search.report import SearchReport
from deeper.search.trials import Trials
from deeper.sweep.events import Tell, quiet
from deeper.sweep.local import Sweep, Work
from deeper.sweep.study import run_arms

STATUS = {
    "finished": ExitCode.FINISHED,
    "diverged": ExitCode.DIVERGED,
    "interrupted": ExitCode.INTERRUPTED,
}


@dataclass(frozen=True, repr=False)
class StudySearch:
    """A search over the config of a study, or of a run; created by `search`.

    Attributes:
        section: what is chosen among, and how.
        words: overrides.
        total: number of trials, unless `run` is given another.
        runs: root of the run directories.
        code: snapshot or tree, see `deeper.sweep.code_snapshot`.
        directories: directories of the user's YAML files.
        display: context manager of a function that is called with each event of
            `deeper.sweep.events`.
        shown: config -> display of the range test's run.
    """

    section: SearchSection
    words: tuple[str, ...]
    total: int
    runs: Path
    code: str
    directories: tuple[Path, ...] = ()
    display: Callable[[], AbstractContextManager[Tell]] = lambda: nullcontext(quiet)
    shown: Callable[[RunConfig], AbstractContextManager[Display]] = lambda config: nullcontext(
        Silent()
    )

    def __repr__(self) -> str:
        """Return a short description."""
        return f"StudySearch({', '.join(self.words)}: over {', '.join(self.section.space)})"

    @property
    def directory(self) -> Path:
        """Return the directory of the search."""
        return self._request(None).directory

    @property
    def trials(self) -> list[Trial]:
        """Return the trials by number, with values, scores on the validation split and state.

        Raises:
            UserError: the search has not begun, or Optuna is not installed.
        """
        return self._request(None).opened().journal.trials()

    def run(self, trials: int | None = None, *, jobs: int | None = None) -> SearchReport:
        """Run trials until there are so many, rerun winner and baseline, and report.

        A search that was stopped goes on, and more trials go on with one that has ended.

        Args:
            trials: their number in all; by default ``trials=`` of the overrides, or 40.
            jobs: number of simultaneous runs; by default one per core, or per set of GPUs.

        Raises:
            UserError: a mistake in the space, Optuna is not installed, or runs failed or were
                stopped.
        """
        told: list[str] = []
        status, report = run_search(self._request(jobs, told.append), trials or self.total)
        if not isinstance(report, SearchReport):
            stopped = status == ExitCode.INTERRUPTED
            raise UserError(
                "The search was stopped; the same call goes on with it."
                if stopped
                else " ".join(told[1:])  # the first line says how many trials there were
            )
        return report

    def finish(self, trial: int, *, jobs: int | None = None) -> "StudySearch":
        """Train a trial that was cut to its end.

        Args:
            trial: its number.
            jobs: see `run`.

        Raises:
            UserError: there is no such trial, or its run failed or was stopped.
        """
        finish(self._request(jobs), trial)
        return self

    def lr(self) -> RateRange:
        """Run the range test of the learning rate, in this process.

        Its figure is written beside its run, in ``lr/`` of the search's directory.

        Raises:
            UserError: a mistake in the config, or the loss broke away too early.
        """
        status, place = run_range(self._request(None))
        if status == ExitCode.INTERRUPTED:
            raise UserError(f"The range test in {place} was stopped; the same call goes on.")
        found = read_range(place)
        write_range(found, place)
        return found

    def _request(
        self, jobs: int | None, tell: Callable[[str], None] = lambda line: None
    ) -> Request:
        def train(config: RunConfig, path: Path, words: list[str]) -> int:
            with self.shown(config) as display:
                return STATUS[train_run(config, path, overrides=words, display=display).status]

        def start(arms: Any, code: Any) -> int:
            run_arms(arms, self.runs, jobs, code, self.display)
            return ExitCode.FINISHED

        def run_here(work: Work, supply: Trials) -> ExitCode:
            with self.display() as events:
                return Sweep(work, events, supply).run().status

        return Request(
            section=self.section,
            words=self.words,
            directories=self.directories,
            runs=self.runs,
            launcher="local",
            settings={"jobs": jobs},
            code=self.code,
            readme=None,
            train=train,
            start=start,
            run_here=run_here,
            tell=tell,
        )


def search(
    name: str,
    *overrides: str,
    space: Mapping[str, Any] | None = None,
    directories: Sequence[Path | str] = (),
) -> StudySearch:
    """Return a search over the config of a study.

    Args:
        name: name of the study's file; "none" for a search without a study.
        *overrides: as on the command line: ``"mode=quick"``, ``"search.sampler=sobol"``.
        space: key -> ``{"low": 0.01, "high": 1.0, "log": True}`` or a list of values; by default
            that of the study's file, or of an override.
        directories: directories of YAML files of the user's own, searched before ours.

    Raises:
        UserError: there is no such study, or an override is not allowed.
    """
    words = (override("study", name), *overrides)
    values = configure_verb("search", *words, directories=directories)
    section = values["search"] if space is None else {**values["search"], "space": space}
    return StudySearch(
        section=read_search(section),
        words=words,
        total=values["trials"],
        runs=Path(values["runs"]),
        code=values["code"],
        directories=tuple(Path(directory) for directory in directories),
    )
