"""Weights & Biases as a mirror of the record: it may be off, offline, slow, broken or dead.

W&B runs in a process of its own, which reads the run directory as it grows (see `wandb_upload`). So
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

from deeper.track.wandb_switches import choose

LOG = "wandb/mirror.log"
NOT_SENT = "not sent: "  # a line of the process that mirrors, with a notice
FINISH_SECONDS = 30.0


class Mirror:
    """The process that mirrors one run.

    Args:
        path: the run directory; its name is the W&B run's id.
        mode: online, offline, or auto, which W&B's own settings and its API key decide.
        warn: told, once, if W&B fails or was turned off.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self, path: Path, mode: str, warn: Callable[[str], None]):
        self._warn, self._said = warn, False
        log = path / LOG
        log.parent.mkdir(exist_ok=True)
        # One that W&B has started for this process, if it has; the mirror starts its own.
        environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
        if "WANDB_MODE" in environment:
            environment["WANDB_MODE"] = environment["WANDB_MODE"].strip().lower()  # as W&B has it
        with log.open("wb") as stream:
            self._log = log.open("rb")  # now: somebody may remove wandb/ while the run goes on
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "deeper.track.wandb_upload", str(path), mode],
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
            warn: told, once, if W&B fails or its own switches turn it off.

        Raises:
            UserError: the mode is unknown.
        """
        choice = choose(settings["mode"])
        if choice.mode == "disabled":
            if settings["mode"] != "disabled":
                warn(choice.notice())
            return None
        try:
            return cls(path, settings["mode"], warn)
        except OSError as error:
            warn(_sentence(str(error)))
            return None

    def check(self) -> None:
        """Say it if W&B has failed or was turned off by now."""
        if self._process.poll() is not None:
            self._say_end()

    def finish(self, status: str, seconds: float | None = None) -> int | None:
        """Let W&B take the rest.

        Args:
            status: of the run: finished, interrupted, diverged or failed.
            seconds: after which it is given up; `FINISH_SECONDS` by default.

        Returns:
            Rows sent; None if W&B failed or was turned off.
        """
        seconds = FINISH_SECONDS if seconds is None else seconds
        try:
            self._process.communicate(status.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            self._say(_sentence(f"no answer for {seconds:.0f} s"))
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
        with self._log:
            sent = re.findall(r"^rows sent: (\d+)$", self._text(), re.M)
            if self._process.returncode == 0 and sent:
                return int(sent[-1])
            self._say_end()
            return None

    def _say_end(self) -> None:
        """Say why the process has ended before the run."""
        text, code = self._text(), self._process.returncode
        notice = re.findall(rf"^{NOT_SENT}(.*)$", text, re.M)
        if code == 0 and notice:
            self._say(notice[-1])
            return
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        self._say(
            _sentence(lines[-1] if code and lines else f"it ended too early, with status {code}")
        )

    def _say(self, text: str) -> None:
        if not self._said:
            self._said = True
            self._warn(text)

    def _text(self) -> str:
        """Return what the process has printed so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def _sentence(reason: str) -> str:
    return (
        f"Weights & Biases failed ({reason[:200]}). The record is whole without it; `deeper sync` "
        "sends it later."
    )


def has_api_key() -> bool:
    """Whether W&B has a key, from the environment or from its login; asks no server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = _base_url().split("//")[-1].split("/")[0].split(":")[0]
    chosen = os.environ.get("NETRC")
    for name in [chosen] if chosen else ["~/.netrc", "~/_netrc"]:
        try:
            return netrc.netrc(Path(name).expanduser()).authenticators(host) is not None
        except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: there is no home
            continue
    return False


def _base_url() -> str:
    """Return the address of the W&B server: one's own, or the public one."""
    directory = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(Path(directory).expanduser() / "settings")
    except (RuntimeError, UnicodeDecodeError, configparser.Error):
        settings.clear()
    stored = settings.get("default", "base_url", fallback="https://api.wandb.ai")
    return os.environ.get("WANDB_BASE_URL", stored)
