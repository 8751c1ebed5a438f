"""Weights & Biases as a mirror of the record: it may be off, offline, slow, broken or dead.

W&B runs in a process of its own, which reads the run directory as it grows (see `upload`). So
nothing that it does stops a run or makes it wait: a dead network is waited for there, what it
prints goes to a file, and where it hangs at the end it is killed. When the run itself is killed,
the other process still sends what was recorded.
"""

import configparser
import netrc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deeper.errors import UserError

MODES = ("auto", "online", "offline", "disabled")
LOG = "wandb/mirror.log"
FINISH_SECONDS = 30.0


class Mirror:
    """The process that mirrors one run.

    Args:
        path: the run directory; its name is the W&B run's id.
        mode: online or offline.
        warn: told, once, if W&B fails.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, path: Path, mode: str, warn: Callable[[str], None]):
        self._log, self._warn, self._said = path / LOG, warn, False
        self._log.parent.mkdir(exist_ok=True)
        # One that W&B has started for this process, if it has; the mirror starts its own.
        environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
        with self._log.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deeper.track.upload", str(path), mode],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                # Ctrl-C is for the run, which then tells the mirror.
                start_new_session=True,
            )

    @classmethod
    def start(
        cls, path: Path, settings: Mapping[str, Any], warn: Callable[[str], None]
    ) -> "Mirror | None":
        """Begin or go on with the W&B run of a run directory; None where W&B is disabled.

        Args:
            path: the run directory.
            settings: the config's ``tracker`` section; here its ``mode``.
            warn: told, once, if W&B fails.

        Raises:
            UserError: the mode is unknown.
        """
        mode = chosen_mode(settings["mode"])
        if mode == "disabled":
            return None
        try:
            return cls(path, mode, warn)
        except OSError as error:
            warn(_sentence(str(error)))
            return None

    def check(self) -> None:
        """Say it if W&B has failed by now."""
        if self._process.poll() is not None:
            self._say_failure()

    def finish(self, status: str, seconds: float | None = None) -> int | None:
        """Let W&B take the rest.

        Args:
            status: of the run: finished, interrupted, diverged or failed.
            seconds: after which it is given up; `FINISH_SECONDS` by default.

        Returns:
            Rows sent; None if W&B failed.
        """
        seconds = FINISH_SECONDS if seconds is None else seconds
        try:
            self._process.communicate(status.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            self._say(f"no answer for {seconds:.0f} s")
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
        if self._process.returncode != 0:
            self._say_failure()
            return None
        return int(
            re.findall(r"^rows sent: (\d+)$", self._log.read_text(errors="replace"), re.M)[-1]
        )

    def _say_failure(self) -> None:
        code = self._process.returncode
        self._say((code and self._last_line()) or f"it ended too early, with status {code}")

    def _say(self, reason: str) -> None:
        if not self._said:
            self._said = True
            self._warn(_sentence(reason))

    def _last_line(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").split("\n")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _sentence(reason: str) -> str:
    return (
        f"Weights & Biases failed ({reason[:200]}). The record is whole without it; `deeper sync` "
        "sends it later."
    )


def chosen_mode(mode: str) -> str:
    """Return online, offline or disabled, whichever ``tracker.mode`` comes to here.

    W&B's own ``WANDB_MODE=disabled`` always holds, and its other values where the mode is auto.

    Raises:
        UserError: the mode is unknown.
    """
    if mode not in MODES:
        raise UserError(f"tracker.mode={mode} is unknown; choose one of {', '.join(MODES)}.")
    wish = os.environ.get("WANDB_MODE")
    if wish == "disabled" or (mode == "auto" and wish in ("online", "offline")):
        return str(wish)
    if mode == "auto":
        return "online" if has_api_key() else "offline"
    return mode


def has_api_key() -> bool:
    """Whether W&B has a key, from the environment or from its login; asks no server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = _base_url().split("//")[-1].split("/")[0].split(":")[0]
    chosen = os.environ.get("NETRC")
    for name in [chosen] if chosen else ["~/.netrc", "~/_netrc"]:
        try:
            return netrc.netrc(Path(name).expanduser()).authenticators(host) is not None
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _base_url() -> str:
    """Return the address of the W&B server: one's own, or the public one."""
    directory = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(Path(directory).expanduser() / "settings")
    except configparser.Error:
        settings.clear()
    stored = settings.get("default", "base_url", fallback="https://api.wandb.ai")
    return os.environ.get("WANDB_BASE_URL", stored)
