"""What a run runs on: versions, machine, code."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
LONGEST_DIFF = 1_000_000


def environment() -> dict[str, Any]:
    """Return what `environment.json` holds, but for the devices."""
    versions = {name: importlib.metadata.version(name) for name in (*PACKAGES, "deeper")}
    return {
        "python": platform.python_version(),
        **versions,
        "hostname": socket.gethostname(),
        "cpu": _cpu(),
        "cpu_count": os.cpu_count(),
        **code_version(),
        "command": shlex.join(sys.argv),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def code_version() -> dict[str, Any]:
    """Return the commit of the checkout that this package is in, and what differs from it."""
    root = Path(__file__).resolve().parents[3]
    commit = _git(root, "rev-parse", "HEAD") if (root / ".git").exists() else None
    if commit is None:
        return {"git_commit": None, "git_dirty": None, "git_diff": None}
    diff = _git(root, "diff", "HEAD") or ""
    if len(diff) > LONGEST_DIFF:
        diff = diff[:LONGEST_DIFF] + f"\n... {len(diff) - LONGEST_DIFF} characters more\n"
    return {"git_commit": commit.strip(), "git_dirty": bool(diff), "git_diff": diff or None}


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
