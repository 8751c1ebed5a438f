"""The version knows its commit: in a checkout, in an sdist, in a wheel, and without git."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import deeper
from deeper.version import RELEASE

ROOT = Path(__file__).parents[1]


def git(root, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    done = subprocess.run(
        ["git", "-C", root, *identity, *arguments], check=True, text=True, capture_output=True
    )
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path):
    """What the build needs of a checkout, with a small package."""
    tree = tmp_path / "tree"
    (tree / "src" / "deeper").mkdir(parents=True)
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "scripts/build_hook.py",
        "src/deeper/version.py",
        "src/deeper/__init__.py",
        "src/deeper/xla_flags.py",
    ):
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    for name in ("src/hydra_plugins/none.py", "conf/train.yaml"):
        (tree / name).parent.mkdir()
        (tree / name).write_text("")
    return tree


def commit(tree):
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "first")
    return git(tree, "rev-parse", "HEAD")


def built(tree, what):
    """Build as a front end does (PEP 517), and return the file."""
    out = tree.parent / f"{tree.name}-{what}"
    out.mkdir()
    code = f"import hatchling.build as b; print(b.build_{what}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


def unpacked(file):
    with tarfile.open(file) as archive:
        archive.extractall(file.parent, filter="data")
    return next(path for path in file.parent.iterdir() if path.is_dir())


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def version_of(place):
    done = subprocess.run(
        [sys.executable, "-c", "import deeper; print(deeper.__version__)"],
        env=os.environ | {"PYTHONPATH": str(place)},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_version_begins_with_the_release():
    assert deeper.__version__.partition("+")[0] == RELEASE


def test_a_wheel_knows_its_commit(tree, tmp_path):
    name = commit(tree)
    wheel = built(tree, "wheel")
    version = f"{RELEASE}+g{name[:10]}"
    assert wheel.name.startswith(f"deeper-{version}-")
    assert contents(wheel)["deeper/_commit.txt"] == f"{name}\nclean\n"
    assert version_of(tree / "src") == version
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert version_of(tmp_path / "installed") == version


def test_a_wheel_of_a_changed_tree_says_so(tree):
    name = commit(tree)
    (tree / "src" / "deeper" / "new.py").write_text("")
    wheel = built(tree, "wheel")
    assert f"+g{name[:10]}.changed-" in wheel.name
    assert contents(wheel)["deeper/_commit.txt"] == f"{name}\nchanged\n"


def test_an_sdist_carries_the_commit_to_the_wheel_made_from_it(tree):
    name = commit(tree)
    wheel = built(unpacked(built(tree, "sdist")), "wheel")
    assert f"+g{name[:10]}-" in wheel.name
    assert contents(wheel)["deeper/_commit.txt"] == f"{name}\nclean\n"


def test_without_git_the_version_is_the_release(tree):
    wheel = built(tree, "wheel")
    assert wheel.name.startswith(f"deeper-{RELEASE}-")
    assert "deeper/_commit.txt" not in contents(wheel)


def test_a_snapshot_of_the_code_is_of_the_commit_that_it_was_taken_from(tree):
    (tree / "code.json").write_text('{"git_commit": "0123456789abcdef", "git_dirty": true}')
    assert version_of(tree / "src") == f"{RELEASE}+g0123456789.changed"
