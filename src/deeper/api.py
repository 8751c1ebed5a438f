"""The functions of ``import deeper``: runs, studies and nets in Python and in notebooks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from deeper.config import instantiate
from deeper.config.compose import configure as compose
from deeper.config.data_sections import OwnDataset
from deeper.config.schema import RunConfig
from deeper.data.catalogue import CATALOGUE
from deeper.errors import DivergedError, UserError
from deeper.progress import Progress, quiet
from deeper.run.prepare_data import Prepared, prepare_data
from deeper.run.run import Run
from deeper.run.train import Display, Silent, train_run
from deeper.search import in_python as searches
from deeper.search.in_python import StudySearch
from deeper.study.compare import compare
from deeper.sweep import study as studies
from deeper.sweep.events import Tell
from deeper.sweep.study import Study

__all__ = ["call", "compare", "configure", "load", "prepare", "search", "study", "train"]


def configure(
    *overrides: str, directories: Sequence[str | Path] = (), **sections: Any
) -> RunConfig:
    """Return the config of ``deeper train`` with the same overrides.

    Args:
        *overrides: as on the command line: ``"model=resnet"``, ``"train.epochs=1"``.
        directories: directories of YAML files of your own, searched before ours.
        **sections: sections that replace composed ones: ``model=deeper.call("mypackage.net",
            width=8)``, ``data=...``, ``task=...``.

    Raises:
        UserError: an override or a value is not allowed.
    """
    return compose(
        *overrides, directories=[Path(directory) for directory in directories], **sections
    )


def call(target: str | Callable[..., Any], **arguments: Any) -> Mapping[str, Any]:
    """Return a config section that calls a function or class of your own.

    Args:
        target: its importable name, ``"mypackage.nets.net"``, or the function or class itself,
            which is recorded by its name.
        **arguments: plain values.

    Raises:
        UserError: it has no importable name, for instance because it is defined inside a function.
    """
    if not isinstance(target, str):
        name = getattr(target, "__qualname__", "")
        module = getattr(target, "__module__", "")
        if not module or not name or "<" in name:
            raise UserError(
                f"{target!r} has no name by which another process could import it: define it at "
                "the top of a module."
            )
        target = f"{module}.{name}"
    instantiate.trust(target)
    return {"_target_": target, **arguments}


def prepare(config: RunConfig, *, progress: Progress = quiet) -> Prepared:
    """Prepare a config's data set in ``data.dir``, as ``deeper prepare`` does.

    Nothing is done if it is already prepared. Data sets of the catalogue are read from original
    files on this machine, or downloaded; photographs are read from ``data.source``; a data set of
    your own is made by the call in its ``data.prepare``.

    Args:
        config: from `configure`.
        progress: told how far it is.

    Raises:
        UserError: it is a data set of your own without ``prepare``, original files are missing or
            damaged, or the network or disk fails.
    """
    return prepare_data(config.data, progress=progress)


def train(
    config: RunConfig,
    *,
    path: str | Path | None = None,
    progress: bool | Display = True,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Run:
    """Train the run of a config, or continue it after an interruption; return the run.

    The run directory is that of the command, and a finished run is not trained again. A missing
    data set of the catalogue is prepared first; see `prepare`.

    Args:
        config: from `configure`.
        path: the run directory; by default the one named by the config.
        progress: show a bar in a terminal or notebook; or a display of your own.
        stop_asked: polled regularly; if it is true, a checkpoint is written and the unfinished run
            is returned.

    Raises:
        UserError: a mistake in the config, or other data than the run saw before.
        DivergedError: the loss or the parameters became infinite or not a number.
    """
    if not isinstance(config, RunConfig):
        raise UserError(f"config={config!r}: give what `deeper.configure` returns.")
    for target in instantiate.targets_in(config.plain()):
        instantiate.trust(target)  # the user has named these targets
    place = None if path is None else Path(path)
    with _display(config, progress) as display:
        if config.data.name in CATALOGUE and not isinstance(config.data, OwnDataset):
            prepare(config, progress=display.prepares)
        trained = train_run(config, place, display=display, stop_asked=stop_asked)
    if trained.status == "diverged":
        outcome = trained.outcome
        where = "" if outcome is None else f" ({outcome.not_finite}, step {outcome.step})"
        raise DivergedError(
            f"The run in {trained.path} diverged{where}: try a smaller optimizer.learning_rate, a "
            "longer schedule.warmup or train.gradient_clip=1."
        )
    return Run(trained.path)


def _display(config: RunConfig, progress: bool | Display) -> AbstractContextManager[Display]:
    if progress is True:
        from deeper.display.run_display import NotebookDisplay

        return NotebookDisplay(f"{config.label} s{config.seed}")
    return nullcontext(Silent() if progress is False else progress)


def load(path: str | Path, *, trust: Sequence[str] = ()) -> Run:
    """Return the run of a run directory or of a directory of imported weights.

    Args:
        path: the directory.
        trust: packages that its config may call, besides deeper itself.

    Raises:
        UserError: it is not a run directory, or names a target that is not trusted.
    """
    for package in trust:
        instantiate.trust(package)
    return Run(path)


def study(
    name: str, *overrides: str, directories: Sequence[str | Path] = (), progress: bool = True
) -> Study:
    """Return a study of ``conf/study``, or of YAML files of your own; `Study.run` makes its runs.

    Its run directories are those of ``deeper train -m study=NAME``.

    Args:
        name: name of its file.
        *overrides: as on the command line: ``"mode=quick"``, ``"train.epochs=2"``.
        directories: directories of YAML files of your own, searched before ours.
        progress: show bars of the runs, and a line for each run that has ended.

    Raises:
        UserError: there is no such study, or an override is not allowed.
    """
    run_study = studies.study(name, *overrides, directories=directories)
    return replace(run_study, display=_bars) if progress else run_study


def search(
    name: str,
    *overrides: str,
    space: Mapping[str, Any] | None = None,
    directories: Sequence[str | Path] = (),
    progress: bool = True,
) -> StudySearch:
    """Return a search for better values of a study's config, as ``deeper search study=NAME``.

    `StudySearch.run` makes its trials and reruns; ``trials`` lists them, `StudySearch.finish`
    trains one to its end, and `StudySearch.lr` is the range test of the learning rate.

    Args:
        name: name of the study's file; "none" for a search without a study.
        *overrides: as on the command line: ``"mode=quick"``, ``"search.sampler=sobol"``.
        space: key -> ``{"low": 0.01, "high": 1.0, "log": True}`` or a list of values; by default
            that of the study's file, or of an override.
        directories: directories of YAML files of your own, searched before ours.
        progress: show bars of the runs, and a line for each run that has ended.

    Raises:
        UserError: there is no such study, or an override is not allowed.
    """
    found = searches.search(name, *overrides, space=space, directories=directories)
    if not progress:
        return found
    return replace(found, display=_bars, shown=lambda config: _display(config, True))


def _bars() -> AbstractContextManager[Tell]:
    from deeper.display.sweep_bars import SweepBars
    from deeper.display.terminal import open_console

    return SweepBars(open_console(stderr=True))
