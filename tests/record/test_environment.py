import json
import os
import subprocess
import sys

import pytest

from deeper import version
from deeper.record import environment as module
from deeper.record.environment import code_version, environment


def git(root, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.com"]
    subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True)


def test_environment_names_versions_and_machine_as_json():
    known = json.loads(json.dumps(environment()))
    for key in (
        "python",
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "hostname",
        "cpu",
        "started",
    ):
        assert isinstance(known[key], str), key
        assert known[key], key
    assert known["cpu_count"] >= 1
    assert known["started"].endswith("+00:00")


def test_environment_does_not_import_jax():
    code = (
        "import sys, deeper.record.environment as e; e.environment(); print('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_commit_and_changes_of_a_checkout_are_known(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "net.py").write_text("depth = 20\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = code_version(tmp_path)
    assert len(clean["git_commit"]) == 40
    assert (clean["git_dirty"], clean["git_diff"]) == (False, None)

    code_version.cache_clear()
    (tmp_path / "net.py").write_text("depth = 56\n")
    changed = code_version(tmp_path)
    assert changed["git_commit"] == clean["git_commit"]
    assert changed["git_dirty"]
    assert "-depth = 20\n+depth = 56" in changed["git_diff"]


def test_long_diff_is_cut_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST_DIFF", 100)
    git(tmp_path, "init", "-q")
    (tmp_path / "net.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    (tmp_path / "net.py").write_text("x\n" * 1000)
    diff = code_version(tmp_path)["git_diff"]
    assert len(diff) < 200
    assert diff.endswith("characters more\n")


def test_outside_a_checkout_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "lib" / "deeper")
    known = code_version(tmp_path)
    assert (known["git_commit"], known["git_dirty"], known["git_diff"]) == (None, None, None)
    assert "is no checkout" in known["git_unknown"]


def committed(root):
    root.mkdir()
    git(root, "init", "-q")
    (root / "net.py").write_text(f"{root.name}\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return (root / ".git" / "refs" / "heads").iterdir().__next__().read_text().strip()


def test_the_commit_is_the_checkouts_own_whatever_repository_the_environment_names(
    tmp_path, monkeypatch
):
    own, other = committed(tmp_path / "own"), committed(tmp_path / "other")
    assert own != other
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    known = code_version(tmp_path / "own")
    assert (known["git_commit"], known["git_dirty"], known["git_diff"]) == (own, False, None)


def test_the_commit_of_another_users_checkout_is_known(tmp_path, monkeypatch):
    own = committed(tmp_path / "own")
    if os.geteuid() != 0:
        pytest.skip("giving a directory to another user needs root")
    for path in (tmp_path / "own", *(tmp_path / "own").rglob("*")):
        os.chown(path, 12345, 12345)
    monkeypatch.delenv("SUDO_UID", raising=False)
    assert code_version(tmp_path / "own")["git_commit"] == own


def test_a_checkout_that_git_cannot_read_says_why_there_is_no_commit(tmp_path):
    (tmp_path / ".git").write_text("gitdir: nowhere\n")
    known = code_version(tmp_path)
    assert known["git_commit"] is None and "not a git repository" in known["git_unknown"]


def test_an_installed_wheel_knows_the_commit_it_was_built_of(tmp_path, monkeypatch):
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "lib" / "deeper")
    (tmp_path / "lib" / "deeper").mkdir(parents=True)
    (tmp_path / "lib" / "deeper" / "_commit.txt").write_text("c0ffee\nchanged\n")
    known = code_version(tmp_path)
    assert (known["git_commit"], known["git_dirty"]) == ("c0ffee", True)
