"""A snapshot of the code is of one version of it, also while it is edited."""

import contextlib

import pytest

from deeper.errors import UserError
from deeper.sweep import code_snapshot

CONFIGS = [{"model": {"_target_": "edited_nets.net"}}]


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module of the user's own, in the tree that is frozen."""
    file = tmp_path / "tree" / "edited_nets.py"
    file.parent.mkdir()
    file.write_text("WIDTH = 1\n")
    monkeypatch.syspath_prepend(file.parent)
    return file


def test_an_edit_while_a_snapshot_is_written_is_not_in_it(nets, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def editing(directory):
        nets.write_text("WIDTH = 2\n")
        yield

    before = code_snapshot.digest(["edited_nets"])
    monkeypatch.setattr(code_snapshot, "disk_errors", editing)
    code = code_snapshot.freeze("snapshot", tmp_path, CONFIGS)
    kept = tmp_path / ".code" / code.root.split("/")[-1] / "src" / nets.name
    assert kept.read_text() == "WIDTH = 1\n" and code.digest == before


def test_code_that_is_edited_all_the_time_is_refused_and_leaves_nothing(
    nets, tmp_path, monkeypatch
):
    def edited(root):
        nets.write_text(nets.read_text() + "WIDTH += 1\n")
        return {"git_commit": None, "git_dirty": None, "git_diff": None}

    monkeypatch.setattr(code_snapshot, "code_version", edited)
    with pytest.raises(UserError):
        code_snapshot.freeze("snapshot", tmp_path, CONFIGS)
    assert not (tmp_path / ".code").exists()


def test_a_snapshot_that_was_edited_is_refused_before_a_sweep(nets, tmp_path):
    code = code_snapshot.freeze("snapshot", tmp_path, CONFIGS)
    assert code_snapshot.freeze("snapshot", tmp_path, CONFIGS) == code
    [kept] = tmp_path.glob(f".code/*/src/{nets.name}")
    kept.write_text("WIDTH = 3\n")
    with pytest.raises(UserError, match="edited since"):
        code_snapshot.freeze("snapshot", tmp_path, CONFIGS)
