"""Weights & Biases as a mirror of the record: it may be off, offline or failing.

Nothing that W&B does can stop a run: its first failure is said once, and the mirror is off from
then on. `sync` sends the record again later.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deeper.errors import UserError

MODES = ("auto", "online", "offline", "disabled")
INIT_SECONDS = 20.0


@dataclass(frozen=True)
class Examples:
    """What a trained net says of a few images, and of all.

    Attributes:
        images: uint8 (n, H, W, C).
        labels: true classes (n,).
        predictions: answers (n,).
        confidences: their probabilities (n,).
        class_names: names of the classes.
        confusion: counts of (true class, answer).
    """

    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    class_names: tuple[str, ...]
    confusion: np.ndarray


class Mirror:
    """A W&B run. Use `start`."""

    def __init__(self, run: Any, warn: Callable[[str], None]):
        self._run, self._warn = run, warn
        self.failed = False

    @classmethod
    def start(
        cls,
        path: Path,
        config: Mapping[str, Any],
        settings: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> "Mirror | None":
        """Begin or go on with the W&B run of a run directory.

        Args:
            path: the run directory; its name is the W&B run's id.
            config: of the run.
            settings: the config's ``tracker`` section: mode, project, entity.
            warn: told if W&B fails.
        """
        mode = settings["mode"]
        if mode not in MODES:
            raise UserError(f"tracker.mode={mode} is unknown; choose one of {', '.join(MODES)}.")
        if mode == "disabled" or os.environ.get("WANDB_MODE") == "disabled":
            return None
        mirror = cls(None, warn)
        with mirror._harmless("start"):
            import wandb

            if mode == "auto":
                mode = "online" if has_api_key() else "offline"
            study = config.get("study") or {}
            mirror._run = wandb.init(
                mode=mode,
                project=settings["project"],
                entity=settings["entity"],
                dir=str(path),
                id=run_id(path),
                name=f"{config['label']}-s{config['seed']}",
                group=study.get("name"),
                tags=[config["label"], config["mode"]["name"]],
                resume="allow",
                config=dict(flat(config)),
                settings=wandb.Settings(
                    silent=True,
                    quiet=True,
                    console="off",
                    init_timeout=INIT_SECONDS,
                    # The run directory records these itself.
                    disable_git=True,
                    disable_code=True,
                    x_disable_stats=True,
                    x_disable_meta=True,
                ),
            )
            mirror._run.define_metric("step", hidden=True)
            mirror._run.define_metric("*", step_metric="step")
        return mirror if mirror._run is not None else None

    def log(self, row: Mapping[str, Any]) -> None:
        """Show a row."""
        if self._run is None:
            return
        with self._harmless("log"):
            self._run.log(dict(row))

    def summary(self, metrics: Mapping[str, float | int], examples: Examples | None) -> None:
        """Show the final metrics, a table of examples and the confusion matrix."""
        if self._run is None:
            return
        with self._harmless("summary"):
            self._run.summary.update(dict(metrics))
        if examples is None or self._run is None:
            return
        with self._harmless("tables"):
            import wandb

            names = examples.class_names
            table = wandb.Table(columns=["image", "label", "prediction", "confidence"])
            for image, label, prediction, confidence in zip(
                examples.images,
                examples.labels,
                examples.predictions,
                examples.confidences,
                strict=True,
            ):
                pixels = image[..., 0] if image.shape[-1] == 1 else image
                table.add_data(
                    wandb.Image(pixels), names[label], names[prediction], float(confidence)
                )
            confusion = wandb.Table(columns=["label", "prediction", "count"])
            for label, prediction in np.argwhere(examples.confusion):
                count = int(examples.confusion[label, prediction])
                confusion.add_data(names[label], names[prediction], count)
            self._run.log({"examples": table, "confusion": confusion})

    def finish(self, status: str) -> None:
        """End the W&B run; an interrupted one can be gone on with."""
        if self._run is None:
            return
        with self._harmless("finish"):
            self._run.finish(exit_code=0 if status == "finished" else 1)

    @contextmanager
    def _harmless(self, doing: str) -> Iterator[None]:
        """Say the first failure and be off from then on."""
        try:
            yield
        except Exception as error:  # whatever W&B raises, the run goes on
            reason = "".join(str(error).strip().splitlines()[:1])
            self._warn(
                f"Weights & Biases failed ({doing}: {type(error).__name__} {reason}). The run "
                "goes on; `deeper sync` sends its record later."
            )
            self._run, self.failed = None, True


def has_api_key() -> bool:
    """Whether W&B has a key, from the environment or from its login; asks no server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    import netrc

    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0]
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def run_id(path: Path) -> str:
    """Return the W&B id of a run directory: its study's and its own name."""
    return re.sub(r"[^\w-]", "_", f"{path.parent.name}-{path.name}")[-128:]


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a config's values with dotted keys."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
