"""What a run runs on: versions, machine, code."""

import datetime
import functools
import importlib.metadata
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from deeper.platform_support import core_count, cpu_name
from deeper.track.files import read_json
from deeper.version import RELEASE

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
LONGEST_DIFF = 1_000_000
FROZEN, FROZEN_DIFF = "code.json", "diff.patch"  # of a copy of the code, what it is a copy of


def environment() -> dict[str, Any]:
    """Return what `environment.json` holds, but for the devices."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "deeper": RELEASE,  # the commit is told below
        "system": platform.platform(),
        "hostname": socket.gethostname(),
        "cpu": cpu_name(),
        "cpu_count": core_count(),
        **code_version(root()),
        "command": f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def root() -> Path:
    """Return the checkout, or the copy of one, that this code is in."""
    return Path(__file__).resolve().parents[3]


@functools.cache  # as it was at the first call: what is edited while a run goes on is not in it
def code_version(root: Path) -> dict[str, Any]:
    """Return the commit of a checkout and what differs from it; None for each outside one.

    Args:
        root: of the checkout, or of a copy of one that says what it was taken from.
    """
    frozen = read_json(root / FROZEN)
    if frozen is not None:
        diff_file = root / FROZEN_DIFF
        return frozen | {"git_diff": diff_file.read_text() if diff_file.is_file() else None}
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return {"git_commit": None, "git_dirty": None, "git_diff": None}
    diff = _git(root, "diff", "--no-ext-diff", "HEAD") or ""
    if len(diff) > LONGEST_DIFF:
        diff = diff[:LONGEST_DIFF] + f"\n... {len(diff) - LONGEST_DIFF} characters more\n"
    # New files are in no diff, but they make the tree another one all the same.
    dirty = bool(_git(root, "status", "--porcelain"))
    return {"git_commit": commit.strip(), "git_dirty": dirty, "git_diff": diff or None}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
