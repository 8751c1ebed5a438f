"""What ``import deeper`` offers: runs, studies and nets in Python and in notebooks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeper.config import instantiate
from deeper.config.compose import configure as compose
from deeper.config.schema import RunConfig
from deeper.errors import DivergedError, UserError
from deeper.run.run import Run
from deeper.run.train import Display, train_run


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


def train(
    config: RunConfig,
    *,
    path: str | Path | None = None,
    progress: bool | Display = True,
    stop_asked: Callable[[], bool] = lambda: False,
) -> Run:
    """Train what a config says, or go on where an earlier call was cut; return the run.

    It is the run directory that the command makes: a finished run is not trained again.

    Args:
        config: from `configure`.
        path: the run directory; by default the one that the config names.
        progress: a bar where there is a terminal or a notebook; or a display of your own.
        stop_asked: polled now and then; then a checkpoint is made and the run returned unfinished.

    Raises:
        UserError: a mistake in the config, or other data than the run saw before.
        DivergedError: the loss or the parameters became infinite or not a number.
    """
    for target in instantiate.targets_in(config.plain()):
        instantiate.trust(target)  # whoever trains it has named it
    place = None if path is None else Path(path)
    if progress is True:
        from deeper.cli.live_display import NotebookDisplay

        with NotebookDisplay(f"{config.label} s{config.seed}") as display:
            trained = train_run(config, place, display=display, stop_asked=stop_asked)
    else:
        watching = None if progress is False else progress
        trained = train_run(config, place, display=watching, stop_asked=stop_asked)
    if trained.status == "diverged":
        outcome = trained.outcome
        where = "" if outcome is None else f" ({outcome.not_finite}, step {outcome.step})"
        raise DivergedError(
            f"The run in {trained.path} diverged{where}: try a smaller optimizer.learning_rate, a "
            "longer schedule.warmup or train.gradient_clip=1."
        )
    return Run(trained.path)


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
