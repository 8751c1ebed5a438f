"""The processes that mirror a run directory, to Weights & Biases and to TensorBoard.

W&B runs in a process of its own, which reads the run directory as it grows (see `wandb_upload`), so
that W&B can neither stop a run nor delay it: the process waits for the network, its output goes to
a file, and it is killed if it hangs at the end. If the run itself is killed, the process still
sends the rows that were recorded. TensorBoard's event file is written likewise.
"""

import configparser
import netrc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeper.record.schema import TENSORBOARD
from deeper.track.wandb_switches import choose, stored_choice

NOT_SENT = "not sent: "  # prefix of the line in which the process reports why it sent nothing
FINISH_SECONDS = 30.0  # timeout for the remaining rows at the end of a run
CHECKPOINT_SECONDS = 900.0  # where checkpoints are sent, too


@dataclass(frozen=True)
class Kind:
    """Where a mirror sends a run.

    Attributes:
        module: of the process; its arguments are the run directory and others.
        log: file in the run directory for the output of the process.
        name: for messages.
        later: how what was not sent is sent, for messages.
    """

    module: str
    log: str
    name: str
    later: str


WANDB = Kind(
    "deeper.track.wandb_upload",
    "wandb/mirror.log",
    "Weights & Biases",
    "`deeper sync` sends it later",
)
EVENTS = Kind(
    "deeper.track.tensorboard_events",
    f"{TENSORBOARD}/mirror.log",
    "TensorBoard's event file",
    "the next start of an unfinished run writes the file anew",
)


class Mirror:
    """The mirror of one run.

    Args:
        kind: where it is sent.
        path: the run directory.
        arguments: of the process; for W&B the mode (online, offline, or auto, for which W&B's
            settings and API key decide) and, while a run is trained, the id of its process.
        warn: called with a message, once, if the mirror fails or is turned off.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self, kind: Kind, path: Path, arguments: Sequence[str], warn: Callable[[str], None]
    ):
        self._kind = kind
        self._warn, self._warned = warn, False
        self.patience: float | None = None  # seconds at the end; `FINISH_SECONDS` by default
        log = path / kind.log
        log.parent.mkdir(exist_ok=True)
        # WANDB_SERVICE names the service that W&B has started for this process; the mirror starts
        # its own.
        environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}
        if "WANDB_MODE" in environment:
            environment["WANDB_MODE"] = environment["WANDB_MODE"].strip().lower()  # as W&B reads it
        with log.open("wb") as stream:
            self._log = log.open("rb")  # opened early: a user may remove wandb/ during the run
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", kind.module, str(path), *arguments],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                # Ctrl-C goes to the run only, which ends the mirror.
                start_new_session=True,
            )

    @classmethod
    def start(
        cls, path: Path, settings: Mapping[str, Any], warn: Callable[[str], None]
    ) -> "Mirror | None":
        """Start or continue the W&B run of a run directory; None if W&B is disabled.

        Args:
            path: the run directory.
            settings: the ``tracker`` section of the config, of which ``mode`` is used.
            warn: called with a message, once, if W&B fails or its own settings turn it off.

        Raises:
            UserError: the mode is unknown.
        """
        choice = choose(settings["mode"])
        if choice.mode == "disabled":
            if settings["mode"] != "disabled":
                warn(choice.notice())
            return None
        try:
            mirror = cls(WANDB, path, [settings["mode"], str(os.getpid())], warn)
        except OSError as error:
            warn(_sentence(WANDB, str(error)))
            return None
        if settings.get("checkpoints"):
            mirror.patience = CHECKPOINT_SECONDS
        return mirror

    @classmethod
    def start_events(
        cls, path: Path, settings: Mapping[str, Any], warn: Callable[[str], None]
    ) -> "Mirror | None":
        """Start TensorBoard's event file of a run directory; None if the config has none.

        Args:
            path: the run directory.
            settings: the ``tracker`` section of the config, of which ``tensorboard`` is used.
            warn: called with a message, once, if it fails.
        """
        if not settings.get("tensorboard"):
            return None
        try:
            return cls(EVENTS, path, [], warn)
        except OSError as error:
            warn(_sentence(EVENTS, str(error)))
            return None

    def check(self) -> None:
        """Warn if the process has ended because W&B failed or is turned off."""
        if self._process.poll() is not None:
            self._warn_of_end()

    def finish(self, status: str, seconds: float | None = None, reason: str = "") -> int | None:
        """Wait until the remaining rows are sent, and end the process.

        Args:
            status: status of the run: finished, interrupted, diverged or failed.
            seconds: timeout, after which the process is killed; by default `patience`.
            reason: the error of a run that failed.

        Returns:
            Number of rows sent; None if W&B failed or was turned off.
        """
        seconds = seconds or self.patience or FINISH_SECONDS
        try:
            self._process.communicate(f"{status}\n{reason}".encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            self._warn_once(_sentence(self._kind, f"no answer for {seconds:.0f} s"))
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
            self._warn_of_end()
            return None

    def _warn_of_end(self) -> None:
        """Warn that the process has ended before the run, with the reason."""
        text, code = self._text(), self._process.returncode
        notice = re.findall(rf"^{NOT_SENT}(.*)$", text, re.M)
        if code == 0 and notice:
            self._warn_once(notice[-1])
            return
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        self._warn_once(
            _sentence(
                self._kind,
                lines[-1] if code and lines else f"it ended too early, with status {code}",
            )
        )

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            self._warn(text)

    def _text(self) -> str:
        """Return the output of the process so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


def _sentence(kind: Kind, reason: str) -> str:
    return f"{kind.name} failed ({reason[:200]}). The run directory is complete; {kind.later}."


def has_api_key() -> bool:
    """Return whether W&B has an API key, in the environment or from its login (offline check)."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = base_url().split("//")[-1].split("/")[0].split(":")[0]
    chosen = os.environ.get("NETRC")
    for name in [chosen] if chosen else ["~/.netrc", "~/_netrc"]:
        try:
            return netrc.netrc(Path(name).expanduser()).authenticators(host) is not None
        except (OSError, RuntimeError, netrc.NetrcParseError):  # RuntimeError: no home directory
            continue
    return False


def how_mirrored() -> str:
    """Return the mode in which runs are mirrored to W&B, and the reason."""
    try:
        import wandb

        settings = wandb.Settings(silent=True, quiet=True)
        choice = choose("auto", stored_choice(wandb.setup(settings).settings))
    except Exception as error:  # any error of W&B, or an unknown WANDB_MODE
        return f"runs are not mirrored: {str(error)[:200]}"
    if choice.mode == "auto":
        return "an API key: runs are mirrored online" if has_api_key() else "no API key: offline"
    return f"{choice.mode}, by {choice.by}"


def base_url() -> str:
    """Return the address of the W&B server: a private one if it is set, or the public one."""
    directory = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb")
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(Path(directory).expanduser() / "settings")
    except (RuntimeError, UnicodeDecodeError, configparser.Error):
        settings.clear()
    stored = settings.get("default", "base_url", fallback="https://api.wandb.ai")
    return os.environ.get("WANDB_BASE_URL", stored)
