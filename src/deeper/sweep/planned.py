"""Checks a study's definition against its planned runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deeper.config.schema import RunConfig
from deeper.record.arm_names import arm_of
from deeper.record.schema import RunRecord
from deeper.run import build
from deeper.study.checks import (
    MEASURED,
    METRICS,
    PLANNED,
    check_base,
    check_names,
    check_selections,
    undecidable,
)
from deeper.study.definition import Study
from deeper.study.read_runs import missing_runs

SPLITS = ("train/", "validation/", "test/")


def check_study(
    configs: Sequence[RunConfig], overrides: Sequence[Sequence[str]] | None = None
) -> list[str]:
    """Check a sweep's study against its runs.

    A part of a study may be run without its baseline, which is checked only if the sweep has all
    runs.

    Args:
        configs: configs of the runs.
        overrides: of each, which tell arms apart; by default only the configs do.

    Returns:
        Sentences on the tests that these runs cannot decide.

    Raises:
        UserError: the study names a key that its runs will not have, or a test selects several
            runs of one seed.
    """
    if configs[0].study is None:
        return []
    runs = [
        replace(
            planned_run(config, build.stated_facts(config)), environment={"overrides": [*words]}
        )
        for config, words in zip(configs, overrides or [[]] * len(configs), strict=True)
    ]
    later = (*MEASURED, *METRICS, *PLANNED)
    study = check_runs(runs, later)
    # Of several runs of an arm and seed, a report takes one.
    different = {(arm_of(run, study.arms), run.seed): run for run in runs}
    check_selections(study, [*different.values()], later)
    return undecidable(study, runs, later)


def check_runs(runs: Sequence[RunRecord], later: Sequence[str]) -> Study:
    """Check a study against its planned runs; return the study.

    Args:
        runs: from `planned_run`.
        later: further keys that the finished runs will have.
    """
    study = Study.of(runs[0].config["study"])
    if runs[0].config.get("task") is not None:  # its metrics are known only after a run
        named = [study.metric, *(test["metric"] for test in study.tests if "metric" in test)]
        later = [*later, *(key for key in named if key.startswith(SPLITS))]
    check_names(study, runs, later)
    if not missing_runs(study, runs):
        check_base(study, runs)
    return study


def planned_run(config: RunConfig, facts: dict[str, object], name: str = "") -> RunRecord:
    """Return a run as a report would read it when it is finished, without metrics.

    Args:
        config: config of the run.
        facts: what is known of its result.
        name: for messages.
    """
    return RunRecord(Path(name or config.label), "finished", config.plain(), dict(facts))
