"""What ``import deeper`` offers: runs, studies and nets in Python and in notebooks."""

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
from deeper.study.compare import compare
from deeper.sweep import study as studies
from deeper.sweep.study import Study

__all__ = ["call", "compare", "configure", "load", "prepare", "study", "train"]


def configure(
    *overrides: str, directories: Sequence[str | Path] = (), **sections: Any
) -> RunConfig:
    """Return the config that ``deeper train`` has with the same overrides.

    Args:
        *overrides: as on the command line: ``"model=resnet"``, ``"train.epochs=1"``.
        directories: of YAML files of your own, searched before ours.
        **sections: in the place of those composed: ``model=deeper.call("mypackage.net", width=8)``,
            ``data=...``, ``task=...``.

    Raises:
        UserError: an override or a value is not allowed.
    """
    return compose(*overrides, directories=[Path(one) for one in directories], **sections)


def call(target: str | Callable[..., Any], **arguments: Any) -> Mapping[str, Any]:
    """Return a config section that calls something of your own.

    Args:
        target: its importable name, ``"mypackage.nets.net"``, or the function or class itself,
            which is recorded by that name.
        **arguments: plain values.

    Raises:
        UserError: it has no importable name, as one that is defined inside a function.
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
    """Make a config's data set ready in ``data.dir``, as ``deeper prepare`` does.

    What is ready stays as it is. Data sets of the catalogue are read from original files on this
    machine, or downloaded; photographs from ``data.source``; a data set of your own is made by the
    call of its ``data.prepare``.

    Args:
        config: from `configure`.
        progress: told how far it is.

    Raises:
        UserError: it is a data set of your own that has no ``prepare``, originals are not there or
            are damaged, or the network or disk fails.
    """
    return prepare_data(config.data, progress=progress)


def train(
    config: RunConfig,
    *,
    path: str | Path | None = None,
    progress: bool | Display = True,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Run:
    """Train what a config says, or go on where an earlier call was cut; return the run.

    It is the run directory that the command makes: a finished run is not trained again. A data set
    of the catalogue is prepared first where it is not there; see `prepare`.

    Args:
        config: from `configure`.
        path: the run directory; by default the one that the config names.
        progress: a bar where there is a terminal or a notebook; or a display of your own.
        stop_asked: polled now and then; then a checkpoint is made and the run returned unfinished.

    Raises:
        UserError: a mistake in the config, or other data than the run saw before.
        DivergedError: the loss or the parameters became infinite or not a number.
    """
    if not isinstance(config, RunConfig):
        raise UserError(f"config={config!r}: give what `deeper.configure` returns.")
    for target in instantiate.targets_in(config.plain()):
        instantiate.trust(target)  # whoever trains it has named it
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
    """Return the run of a directory, or of one of imported weights.

    Args:
        path: the directory.
        trust: packages of others that its config may call, besides deeper itself.

    Raises:
        UserError: it is none, or names a target that is not trusted.
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
        name: of its file.
        *overrides: as on the command line: ``"mode=quick"``, ``"train.epochs=2"``.
        directories: of YAML files of your own, searched before ours.
        progress: bars of the runs while they are made, and a line for each that has ended.

    Raises:
        UserError: there is no such study, or an override is not allowed.
    """
    found = studies.study(name, *overrides, directories=directories)
    if not progress:
        return found
    from deeper.display.sweep_bars import SweepBars
    from deeper.display.terminal import open_console

    return replace(found, display=lambda: SweepBars(open_console(stderr=True)))
