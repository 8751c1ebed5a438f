"""The version of the package, with the commit that it was made from.

Imported by the build too (pyproject.toml), before anything is installed: standard library only.

A wheel and an sdist carry ``deeper/_commit.txt``, two lines: the commit (40 hexadecimal digits) and
``clean`` or ``changed``. A checkout asks git, a snapshot of a sweep's code has its ``code.json``.
"""

import functools
import json
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
        name, state = (PACKAGE / COMMIT_FILE).read_text().split()
        return name, state == "changed"
    if (root / "code.json").is_file():
        code = json.loads((root / "code.json").read_text())
        return (code["git_commit"], bool(code["git_dirty"])) if code.get("git_commit") else None
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "HEAD")
    return None if head is None else (head.strip(), _git(root, "status", "--porcelain") != "")


def commit_text() -> str | None:
    """Return what `COMMIT_FILE` holds; None where the commit is not known."""
    known = commit()
    return known and f"{known[0]}\n{'changed' if known[1] else 'clean'}\n"


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
