"""Comparing runs without a study: grouped by arms, with intervals."""

import pytest

from deeper.errors import UserError
from deeper.study.compare import compare
from tests.study.conftest import write_net


def nets(root, errors, **more):
    return [write_net(root, True, 20, seed, error, **more) for seed, error in enumerate(errors)]


def test_five_seeds_have_an_interval_and_fewer_a_range(tmp_path):
    many = nets(tmp_path / "a", (10.0, 11.0, 12.0, 13.0, 14.0))
    few = nets(tmp_path / "b", (20.0, 21.0), config={"optimizer": {"learning_rate": 0.2}})
    table = compare([*many, *few]).table
    assert [row[:3] for row in table.rows] == [
        ("resnet20 optimizer.learning_rate=0.1", "5", "12.00"),
        ("resnet20 optimizer.learning_rate=0.2", "2", "20.50"),
    ]
    assert table.rows[0][3] == "10.04 to 13.96 (95 % t)"
    assert table.rows[1][3] == "20.00 to 21.00 (range)"
    assert str(table).startswith("| arm | n | test/error | interval |")


def test_arms_are_named_by_the_file_that_was_chosen(tmp_path):
    runs = []
    for name, value in (("flip", 1), ("none", 2)):
        config = {"choices": {"augment": name}, "augment": [{"probability": value}]}
        runs += nets(tmp_path / name, (1.0,), config=config)
    assert list(compare(runs).arms) == ["resnet20 augment=flip", "resnet20 augment=none"]


def test_a_run_given_twice_counts_once(tmp_path):
    [run] = nets(tmp_path / "a", (1.0,))
    [copy] = nets(tmp_path / "b", (2.0,))
    assert compare([run, str(run)]).table.rows[0][1:3] == ("1", "1.00")
    assert compare([run, copy]).table.rows[0][1:3] == ("1", "2.00")


def test_a_metric_that_no_run_has_is_said(tmp_path):
    with pytest.raises(UserError, match="no number test/eror"):
        compare(nets(tmp_path, (1.0,)), metric="test/eror")
