"""The version of the package, with the commit that it was made from.

Imported by the build too (pyproject.toml), before anything is installed: standard library only.

A wheel and an sdist carry ``deeper/_commit.txt``, two lines: the commit (40 hexadecimal digits) and
``clean`` or ``changed``. A checkout asks git, a snapshot of a sweep's code has its ``code.json``.
"""

import functools
import json
import os
import subprocess
from pathlib import Path

RELEASE = "0.1.0"
COMMIT_FILE = "_commit.txt"
PACKAGE = Path(__file__).resolve().parent


@functools.cache  # the code that was imported stays what it is, whatever becomes of the tree
def version() -> str:
    """Return the release and the commit (PEP 440): 0.1.0+g0123456789, with .changed where it was.

    The release alone where the commit is not known.
    """
    known = commit()
    if known is None:
        return RELEASE
    name, changed = known
    return f"{RELEASE}+g{name[:10]}{'.changed' if changed else ''}"


def commit() -> tuple[str, bool] | None:
    """Return the commit and whether the code was another than the commit's; None if unknown."""
    root = PACKAGE.parents[1]
    if (PACKAGE / COMMIT_FILE).is_file():
        name, state = (PACKAGE / COMMIT_FILE).read_text(encoding="utf-8").split()
        return name, state == "changed"
    if (root / "code.json").is_file():
        code = json.loads((root / "code.json").read_text(encoding="utf-8"))
        return (code["git_commit"], bool(code["git_dirty"])) if code.get("git_commit") else None
    if not (root / ".git").exists():
        return None
    try:
        return git(root, "rev-parse", "HEAD").strip(), bool(git(root, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None


def commit_text() -> str | None:
    """Return what `COMMIT_FILE` holds; None where the commit is not known."""
    known = commit()
    return known and f"{known[0]}\n{'changed' if known[1] else 'clean'}\n"


def git(root: Path, *arguments: str) -> str:
    """Return what git says of a checkout, which may be another user's.

    Raises:
        OSError, subprocess.SubprocessError: there is no git, or it fails.
    """
    # Variables such as GIT_DIR and GIT_WORK_TREE would lead to another repository.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # Git believes safe.directory from the environment, and this code runs from there anyway; no
    # program that the checkout's own settings name is started.
    given = {"safe.directory": str(root), "core.fsmonitor": "false"}
    environ["GIT_CONFIG_COUNT"] = str(len(given))
    for number, (key, value) in enumerate(given.items()):
        environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=environ,
        timeout=20,
        check=True,
    )
    return done.stdout.decode(errors="replace")
