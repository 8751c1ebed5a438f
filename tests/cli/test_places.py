"""Directories may have any name; unwritable ones are refused at the start."""

import json
import shutil

import pytest

from deeper.data.dataset import open_dataset
from deeper.data.prepare.prepare import prepare
from tests.cli.test_data_record import SHORT
from tests.data import tiny

ODD = "[v3] *?"  # a pattern, for whoever takes names for patterns


@pytest.mark.long
def test_a_run_is_stopped_gone_on_with_and_evaluated_where_a_name_looks_like_a_pattern(
    tmp_path, data_dir, said
):
    data, runs = tmp_path / f"data {ODD}", tmp_path / f"runs {ODD}"
    shutil.copytree(data_dir, data)
    given = (*SHORT, f"data.dir='{data}'", f"runs='{runs}'")
    said("train", *given)
    [run] = (runs / "single").iterdir()
    first = json.loads((run / "result.json").read_text())
    (run / "result.json").unlink()
    assert "step 4" in said("train", *given)
    assert not (run / "checkpoints-damaged").exists()
    assert json.loads((run / "result.json").read_text())["metrics"] == first["metrics"]
    assert "203" in said("evaluate", f"run='{run}'")
    named = said("train", *given, f"init_from='{run}'", "seed=1")
    assert str(run) in named.replace("\n", "")
    by_pattern = said("train", *given, f"init_from='{run.with_name('*-s0*')}'", "seed=2")
    assert str(run) in by_pattern.replace("\n", "")


def test_data_are_prepared_where_a_name_looks_like_a_pattern(tmp_path, monkeypatch):
    tiny.install("fashion_mnist", tmp_path / ODD, monkeypatch.setitem, monkeypatch.setattr)
    prepare("fashion_mnist", tmp_path / f"data {ODD}", tmp_path / ODD)
    assert len(open_dataset("fashion_mnist", tmp_path / f"data {ODD}").splits["test"]) == 25


@pytest.mark.parametrize("name", ["back\\slash", "colon:", "latin\udce4"])
def test_a_place_that_no_checkpoint_can_be_written_to_is_refused(name, tmp_path, mistake):
    assert "No checkpoint can be written" in mistake("train", *SHORT, f"runs='{tmp_path / name}'")
