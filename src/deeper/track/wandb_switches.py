"""Whether the record of a run goes to Weights & Biases: our switch, and W&B's own ones.

W&B's are the environment (``WANDB_MODE``, ``WANDB_DISABLED``) and its settings files, the user's
and the directory's, which ``wandb offline`` and ``wandb disabled`` write. Where one of them turns
W&B off, nothing is sent, whatever ``tracker.mode`` says. Else ``tracker.mode`` is followed if it is
not auto, and then they are. As at W&B, the environment goes before the files.
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
    """How the record goes to W&B.

    Attributes:
        mode: online, offline or disabled; auto where an API key decides.
        by: what said so, for a notice.
    """

    mode: str
    by: str

    def notice(self) -> str:
        """Return the sentence for a run that is not sent."""
        return f"Weights & Biases is turned off by {self.by}: nothing is sent."


def choose(mode: str, stored: Choice | None = None) -> Choice:
    """Return how the record goes to W&B.

    Args:
        mode: ``tracker.mode``.
        stored: what W&B's settings files say; see `stored_choice`.

    Raises:
        UserError: the mode, or ``WANDB_MODE``, is unknown.
    """
    if mode not in MODES:
        raise UserError(f"tracker.mode={mode} is unknown; choose one of {', '.join(MODES)}.")
    ours, theirs = Choice(mode, f"tracker.mode={mode}"), _of_environment() or stored
    if mode == "disabled" or theirs is None:
        return ours
    return theirs if mode == "auto" or theirs.mode == "disabled" else ours


def _of_environment() -> Choice | None:
    """Return what the environment says of W&B; None if it says nothing."""
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
    """Return what W&B's settings files say; None if they say nothing.

    Args:
        settings: of W&B, from ``wandb.setup().settings``.
    """
    files = settings.read_system_settings()
    stored: Mapping[str, str] = files.all()
    by = f"W&B's settings ({', '.join(map(str, files.sources))})"
    if stored.get("disabled", "").strip().lower() not in _FALSE:  # of older versions of W&B
        return Choice("disabled", by)
    meaning = _MEANINGS.get(stored.get("mode", "").strip().lower())
    return None if meaning is None else Choice(meaning, by)
