"""Optuna's study of a search, in a journal file that survives kills and that launchers share.

Trials are numbered in the order in which they were asked for. The sampler is made anew for each of
them, from the search's seed and the number: what is asked does not depend on where a search was
cut. Scores are such that less is better.

Papers: TPE, Bergstra et al. 2011; CMA-ES, Hansen 2016 (arXiv:1604.00772); Sobol's sequence,
scrambled (Owen 1998); asynchronous successive halving, Li et al. 2020 (arXiv:1810.05934);
Hyperband, Li et al. 2018 (arXiv:1603.06560); importance, Hutter et al. 2014 (fANOVA).
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deeper.config.search_section import Range
from deeper.errors import UserError
from deeper.record.atomic_files import disk_errors
from deeper.search.definition import Definition

JOURNAL, STUDY = "journal.log", "search"
FEWEST = 4  # trials that an importance is computed of


@dataclass(frozen=True)
class Trial:
    """A trial, as the journal has it.

    Attributes:
        number: from 0 on.
        state: running, complete, pruned or fail.
        values: key -> value; incomplete if its launcher was killed in the middle of asking.
        scores: share of the run, see `Definition.whole` -> score on the validation split.
        reason: of a trial that failed or diverged.
    """

    number: int
    state: str
    values: dict[str, Any]
    scores: dict[int, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def settled(self) -> bool:
        """Whether nothing more is to be told of it."""
        return self.state != "running"


class Journal:
    """The journal of a search.

    Args:
        directory: of the search.
        definition: of the search.

    Raises:
        UserError: Optuna is not installed, or the disk refuses.
    """

    def __init__(self, directory: Path, definition: Definition):
        self._optuna, self._definition = _optuna(), definition
        journal = self._optuna.storages.journal
        file = str(directory / JOURNAL)
        with disk_errors(directory):
            backend = journal.JournalFileBackend(file)
            _mend(Path(file), journal.JournalFileSymlinkLock(file))
        self._storage = self._optuna.storages.JournalStorage(backend)
        self._study = self._optuna.create_study(
            storage=self._storage,
            study_name=STUDY,
            direction="minimize",
            pruner=_pruner(self._optuna, definition),
            load_if_exists=True,
        )

    def trials(self) -> list[Trial]:
        """Return all trials by number."""
        return [
            Trial(
                number=trial.number,
                state=trial.state.name.lower(),
                values=dict(trial.params),
                scores=dict(trial.intermediate_values),
                reason=str(trial.user_attrs.get("reason", "")),
            )
            for trial in self._study.get_trials(deepcopy=False)
        ]

    def ask(self) -> Trial:
        """Add a trial and return it; the caller keeps other launchers from asking meanwhile."""
        number = len(self._study.get_trials(deepcopy=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            self._study.sampler = _sampler(self._optuna, self._definition, number)
        trial = self._study.ask(fixed_distributions=self._distributions())
        return Trial(trial.number, "running", dict(trial.params))

    def report(self, number: int, share: int, score: float) -> bool:
        """Record a running trial's score at a rung; return whether it is to be cut there."""
        study = self._storage.get_study_id_from_name(STUDY)
        trial = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        if self._storage.get_trial(trial).state.is_finished():
            return False
        self._storage.set_trial_intermediate_value(trial, share, score)
        if not self._study.pruner.prune(self._study, self._storage.get_trial(trial)):
            return False
        self._study.tell(number, state=self._optuna.trial.TrialState.PRUNED, skip_if_finished=True)
        return True

    def complete(self, number: int, score: float) -> None:
        """Record the score of a trial that has finished."""
        trial = self._running(number)
        if trial is not None:
            self._storage.set_trial_intermediate_value(trial, self._definition.whole, score)
            self._study.tell(number, score, skip_if_finished=True)

    def give_up(self, number: int, reason: str, *, diverged: bool = False) -> None:
        """Record that a trial has no score: it failed, or diverged, which the sampler avoids."""
        trial = self._running(number)
        if trial is not None:
            state = self._optuna.trial.TrialState
            self._storage.set_trial_user_attr(trial, "reason", reason)
            self._study.tell(
                number, state=state.PRUNED if diverged else state.FAIL, skip_if_finished=True
            )

    def _running(self, number: int) -> int | None:
        study = self._storage.get_study_id_from_name(STUDY)
        trial: int = self._storage.get_trial_id_from_study_id_trial_number(study, number)
        return None if self._storage.get_trial(trial).state.is_finished() else trial

    def importance(self) -> tuple[dict[str, float], int, int]:
        """Return each key's share of the variance of the score at the first rung.

        All trials that came so far count, also those that were cut there.

        Returns:
            key -> share, greatest first, empty where there are too few trials; the share of the
            run at which they are compared; and their number.
        """
        first = (*self._definition.shares, self._definition.whole)[0]
        known = [
            trial for trial in self.trials() if math.isfinite(trial.scores.get(first, math.nan))
        ]
        if len(known) < FEWEST or len({trial.scores[first] for trial in known}) < 2:
            return {}, first, len(known)
        compared = self._optuna.create_study(direction="minimize")
        for trial in known:
            compared.add_trial(
                self._optuna.trial.create_trial(
                    params=trial.values,
                    distributions=self._distributions(),
                    value=trial.scores[first],
                )
            )
        evaluator = self._optuna.importance.FanovaImportanceEvaluator(seed=0)
        found = self._optuna.importance.get_param_importances(compared, evaluator=evaluator)
        return dict(found), first, len(known)

    def _distributions(self) -> dict[str, Any]:
        return {
            key: _distribution(self._optuna, values)
            for key, values in self._definition.space.items()
        }


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "deeper search needs Optuna: run scripts/setup search (pip install 'deeper[search]')."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _mend(file: Path, lock: Any) -> None:
    """Remove an incomplete last line, which a full disk or a lost machine may leave."""
    lock.acquire()
    try:
        content = file.read_bytes()
        if content and not content.endswith(b"\n"):
            with file.open("rb+") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _distribution(optuna: Any, values: Any) -> Any:
    if not isinstance(values, Range):
        return optuna.distributions.CategoricalDistribution(values)
    kind = "IntDistribution" if values.whole else "FloatDistribution"
    return getattr(optuna.distributions, kind)(values.low, values.high, log=values.log)


def _sampler(optuna: Any, definition: Definition, number: int) -> Any:
    """Return the sampler of a trial; Sobol's has one seed, and its place in the journal."""
    samplers, seed = optuna.samplers, (definition.seed * 1_000_003 + number) % 2**32
    if definition.sampler == "sobol":
        return samplers.QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=definition.seed,
            warn_independent_sampling=False,
        )
    if definition.sampler == "cmaes":
        return samplers.CmaEsSampler(
            seed=seed,
            warn_independent_sampling=False,
            consider_pruned_trials=definition.pruner != "none",
        )
    return samplers.TPESampler(seed=seed)


def _pruner(optuna: Any, definition: Definition) -> Any:
    rule: Mapping[str, int] = {"min_resource": 1, "reduction_factor": definition.reduction}
    if definition.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(**rule)
    if definition.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=definition.whole, **rule)
    return optuna.pruners.NopPruner()
