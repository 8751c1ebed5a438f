"""Decides whether a run is sent to Weights & Biases, from ``tracker.mode`` and W&B's own settings.

W&B's own settings are the environment (``WANDB_MODE``, ``WANDB_DISABLED``) and its settings files
of the user and of the directory, which ``wandb offline`` and ``wandb disabled`` write. The
environment has precedence over the files, as in W&B. If they turn W&B off, nothing is sent. Else
``tracker.mode`` decides unless it is auto, and with auto W&B's settings decide.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deeper.errors import UserError

MODES = ("auto", "online", "offline", "disabled")
_MEANINGS = {
    "online": "online", "run": "online", "shared": "online",
    "offline": "offline", "dryrun": "offline",
    **dict.fromkeys(("disabled", "off", "none", "no", "false", "0"), "disabled"),
}  # fmt: skip
_FALSE = ("", "0", "false", "no", "off", "n", "f")


@dataclass(frozen=True)
class Choice:
    """The mode in which a run is sent to W&B.

    Attributes:
        mode: online, offline or disabled; auto if the presence of an API key decides.
        by: the setting that decided, for messages.
    """

    mode: str
    by: str

    def notice(self) -> str:
        """Return the message for a run that is not sent."""
        return f"Weights & Biases is turned off by {self.by}: nothing is sent."


def choose(mode: str, stored: Choice | None = None) -> Choice:
    """Return the mode in which a run is sent to W&B.

    Args:
        mode: ``tracker.mode``.
        stored: the choice in W&B's settings files; see `stored_choice`.

    Raises:
        UserError: the mode, or ``WANDB_MODE``, is unknown.
    """
    if mode not in MODES:
        raise UserError(f"tracker.mode={mode} is unknown; choose one of {', '.join(MODES)}.")
    ours, theirs = Choice(mode, f"tracker.mode={mode}"), _from_environment() or stored
    if mode == "disabled" or theirs is None:
        return ours
    return theirs if mode == "auto" or theirs.mode == "disabled" else ours


def _from_environment() -> Choice | None:
    """Return the choice in the environment; None if W&B's variables are not set."""
    disabled = os.environ.get("WANDB_DISABLED", "")
    if disabled.strip().lower() not in _FALSE:
        return Choice("disabled", f"WANDB_DISABLED={disabled}")
    mode = os.environ.get("WANDB_MODE", "").strip()
    if not mode:
        return None
    if mode.lower() not in _MEANINGS:
        raise UserError(f"WANDB_MODE={mode} is unknown; choose online, offline or disabled.")
    return Choice(_MEANINGS[mode.lower()], f"WANDB_MODE={mode}")


def stored_choice(settings: Any) -> Choice | None:
    """Return the choice in W&B's settings files; None if they contain none.

    Args:
        settings: settings of W&B, from ``wandb.setup().settings``.
    """
    files = settings.read_system_settings()
    stored: Mapping[str, str] = files.all()
    by = f"W&B's settings ({', '.join(map(str, files.sources))})"
    if stored.get("disabled", "").strip().lower() not in _FALSE:  # written by older versions of W&B
        return Choice("disabled", by)
    meaning = _MEANINGS.get(stored.get("mode", "").strip().lower())
    return None if meaning is None else Choice(meaning, by)
