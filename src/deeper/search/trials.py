"""Chooses the trials of a search, claims them for a launcher, and records how they end.

A trial's run is an ordinary run: its config is frozen in ``trials/NUMBER-LABEL-sSEED-HASH``, and
it goes on after a cut as any other. At a rung the run's own process reports its score on the
validation split and learns whether it stops there (see `rungs_of`), on this machine as in Slurm.
What it scores on the test split plays no part here.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.config.identity import config_hash
from deeper.errors import UserError
from deeper.record.atomic_files import read_json
from deeper.record.schema import CONFIG, RESULT
from deeper.search.definition import TRIALS, Definition, read_definition, words_of
from deeper.search.journal import Journal, Trial
from deeper.sweep import slurm
from deeper.sweep.claim import Arm, alive_among, claim, locked, new_folder
from deeper.sweep.code_snapshot import Code
from deeper.sweep.submission import Submission, read_submission
from deeper.train.rungs import Rungs

MOST_BROKEN = 3  # trials in a row, before a launcher asks for no more
LOST_SECONDS = 15.0  # between looks for trials that their launcher has left


@dataclass(frozen=True)
class Search:
    """A search that has a directory.

    Attributes:
        directory: of the search.
        definition: of the search.
        journal: of the search.
    """

    directory: Path
    definition: Definition
    journal: Journal

    @classmethod
    def open(cls, directory: Path) -> "Search":
        """Return the search in a directory.

        Raises:
            UserError: there is none, or Optuna is not installed.
        """
        definition = read_definition(directory)
        return cls(directory, definition, Journal(directory, definition))

    def directory_of(self, number: int) -> Path | None:
        """Return a trial's run directory; None if it has none yet."""
        found = sorted((self.directory / TRIALS).glob(f"{number:04d}-*/{CONFIG}"))
        return found[0].parent if found else None

    def final_score(self, number: int) -> float | None:
        """Return the score of a trial that was trained to its end, also after it was pruned."""
        directory = self.directory_of(number)
        result = read_json(directory / RESULT) if directory is not None else None
        if result is None or result.get("status") != "finished":
            return None
        found = (result.get("metrics") or {}).get(self.definition.metric)
        return None if found is None else self.definition.value(float(found))

    def best(self) -> Trial:
        """Return the trial with the best validation metric at the end; of equals the first.

        Raises:
            UserError: no trial has come to its end.
        """
        scores = {trial.number: self.final_score(trial.number) for trial in self.journal.trials()}
        known = {number: score for number, score in scores.items() if score is not None}
        if not known:
            raise UserError(
                f"No trial in {self.directory} has come to its end: `deeper search status` says "
                "why."
            )
        number = min(known, key=lambda one: (known[one], one))
        return self.journal.trials()[number]

    def arm(self, trial: Trial, *, rungs: bool = True) -> Arm:
        """Return a trial's arm.

        Args:
            trial: the trial.
            rungs: whether it may be cut at rungs.

        Raises:
            UserError: its values do not go together.
        """
        words, config = self.definition.config(*words_of(trial.values))
        name = f"{trial.number:04d}-{config.label.replace('/', '-')}-s{config.seed}"
        directory = self.directory_of(trial.number) or (
            self.directory / TRIALS / f"{name}-{config_hash(config.plain())}"
        )
        search = {"directory": str(self.directory), "number": trial.number} if rungs else None
        return Arm(f"trial {trial.number}", directory, config, words, search=search)


def rungs_of(submission: Submission | None) -> Rungs | None:
    """Return where a run may be cut: a trial of a search with a pruner; None for other runs."""
    if submission is None or submission.search is None:
        return None
    found, number = Search.open(Path(submission.search["directory"])), submission.search["number"]
    if not found.definition.shares:
        return None
    return Rungs(
        found.definition.shares,
        found.definition.whole,
        lambda share, score: found.journal.report(number, share, score),
    )


class Trials:
    """The trials that a launcher runs: those that another one has left, then new ones.

    Args:
        search: the search.
        total: number of its trials in all, without those that failed.
        launcher: local or slurm.
        settings: settings of the launcher.
        runs: root of the run directories.
        code: the code to run.
    """

    def __init__(
        self,
        search: Search,
        total: int,
        launcher: str,
        settings: dict[str, Any],
        runs: Path,
        code: Code,
    ):
        self.search, self.total = search, total
        self.launcher, self.settings = launcher, settings
        self._runs, self._code = runs, code
        self.folder = new_folder(runs, search.directory.parent.name)
        self._mine: set[int] = set()
        self._looked = -LOST_SECONDS
        self._broken = 0  # trials in a row
        self.failed: list[tuple[str, str]] = []

    def next(self) -> Path | None:
        """Claim a trial and return its directory; None if there is none to run now."""
        # Under one lock, so that a trial without a directory is one whose launcher was killed.
        with locked([self.search.directory]):
            while not self.stuck:
                trial = self._left() or self._new()
                if trial is None:
                    return None
                try:
                    directory = self._claim(trial)
                except UserError as error:
                    self._give_up(trial.number, str(error))
                    continue
                if directory is not None:
                    return directory
        return None

    @property
    def stuck(self) -> bool:
        """Whether so many trials broke in a row that a further one would, too."""
        return self._broken >= MOST_BROKEN

    def complete(self) -> bool:
        """Return whether all trials are settled, whoever runs them, or the launcher is stuck."""
        trials = self._counted()
        done = len(trials) >= self.total and all(trial.settled for trial in trials)
        return done or self.stuck

    def _counted(self) -> list[Trial]:
        """Return the trials that did not fail; for those others are asked for."""
        return [trial for trial in self.search.journal.trials() if trial.state != "fail"]

    def ended(self, directory: Path, failure: str | None) -> str | None:
        """Record how a trial's process has ended.

        Args:
            directory: of the trial's run.
            failure: reason, if it broke.

        Returns:
            The outcome in words; None if there is none, since it broke or was interrupted.
        """
        number = int(directory.name.partition("-")[0])
        self._mine.discard(number)
        outcome = self._settle(self.search.journal.trials()[number])
        if outcome is not None:
            self._broken = 0
        elif failure is not None:
            self._broken += 1
            self.search.journal.give_up(number, failure)
        return outcome

    @property
    def settled(self) -> int:
        """Return the number of trials that are settled, without those that failed."""
        return sum(trial.settled for trial in self._counted())

    @property
    def running(self) -> int:
        """Return the number of trials that are not settled, whoever runs them."""
        return len(self._counted()) - self.settled

    def _new(self) -> Trial | None:
        if len(self._counted()) >= self.total:
            return None
        trial = self.search.journal.ask()
        self._mine.add(trial.number)
        return trial

    def _left(self) -> Trial | None:
        """Return an unsettled trial that no launcher runs."""
        if time.monotonic() - self._looked < LOST_SECONDS:
            return None
        trials = self.search.journal.trials()
        unsettled = [t for t in trials if not t.settled and t.number not in self._mine]
        directories = [self.search.directory_of(trial.number) for trial in unsettled]
        submissions = [None if d is None else read_submission(d) for d in directories]
        for trial, where in zip(unsettled, alive_among(submissions), strict=True):
            if where is not None or self._settle(trial) is not None:
                continue
            if set(trial.values) != set(self.search.definition.space):
                self._give_up(trial.number, "its launcher was killed while it asked for values")
                continue
            self._mine.add(trial.number)
            return trial
        self._looked = time.monotonic()
        return None

    def _claim(self, trial: Trial) -> Path | None:
        arm = self.search.arm(trial)
        on_slurm = self.launcher == "slurm"
        taken = claim(
            [arm],
            self._runs,
            self.launcher,
            self._code,
            self.settings,
            slurm.submit if on_slurm else lambda taken: None,
            folder=None if on_slurm else self.folder,
        )
        if taken.failed:
            raise UserError(taken.failed[0][1])
        if taken.todo:
            return arm.directory
        self._mine.discard(trial.number)
        if taken.finished:
            self._settle(trial)
        return None

    def _settle(self, trial: Trial) -> str | None:
        """Tell the journal how a trial has ended; return it in words, None if it has not."""
        journal, definition = self.search.journal, self.search.definition
        directory = self.search.directory_of(trial.number)
        result = read_json(directory / RESULT) if directory is not None else None
        if result is not None and result.get("status") == "diverged":
            reason = str(result.get("reason") or "diverged")
            journal.give_up(trial.number, reason, diverged=True)
            return reason
        score = self.search.final_score(trial.number)
        if score is not None:
            journal.complete(trial.number, score)
            return f"{definition.metric} {definition.value(score):.2f}"
        if result is not None:
            self._give_up(trial.number, f"it has no number {definition.metric}")
            return None
        if trial.settled:
            return said(trial, definition)
        return None

    def _give_up(self, number: int, reason: str) -> None:
        self._broken += 1
        self.search.journal.give_up(number, reason)
        self.failed.append((f"trial {number}", reason))


def said(trial: Trial, definition: Definition) -> str:
    """Return in words where a trial stands, by its last score."""
    if not trial.scores:
        return trial.reason or trial.state
    share = max(trial.scores)
    value = definition.value(trial.scores[share])
    where = "" if share == definition.whole else f" at {share}/{definition.whole} of the run"
    word = "cut, " if trial.state == "pruned" else ""
    return f"{word}{definition.metric} {value:.2f}{where}"
