"""The range test of the learning rate."""

import json

import numpy as np
import pytest

from deeper.errors import UserError
from deeper.search.rate_range import rate_range, read_range, words_of_range, write_range
from deeper.train.schedule import RangeTest
from tests.search.conftest import section


def curve(rates):
    """A loss that falls around a rate of 0.01, is least near 1, and breaks away from 3 on."""
    fall = 2.3 - 2.0 / (1 + (0.01 / rates) ** 1.5)
    return fall + np.where(rates > 1, (rates - 1) ** 2, 0.0)


def test_the_rate_at_which_the_loss_falls_fastest_is_found():
    rates = np.geomspace(1e-5, 10, 300)
    found = rate_range(rates, curve(rates))
    assert 0.005 < found.steepest < 0.05
    assert 0.3 < found.lowest < 3
    assert 1 < found.broken < 10
    assert rate_range(rates[:150], curve(rates[:150])).broken is None


def test_a_run_of_the_test_is_read_and_drawn(tmp_path):
    rates = np.geomspace(1e-5, 10, 100)
    # The schedule is of the whole batch: a quarter of the key's unit at 64 examples.
    rows = [
        {"step": n + 1, "lr": rate / 4, "train/loss": loss}
        for n, (rate, loss) in enumerate(zip(rates, curve(rates), strict=True))
    ]
    (tmp_path / "config.yaml").write_text("train: {batch_size: 64}\n")
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_range(tmp_path)
    np.testing.assert_allclose(found.rates, rates)
    picture = write_range(found, tmp_path)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    written = json.loads((tmp_path / "range.json").read_text())
    assert written["a_tenth_of_lowest"] == pytest.approx(found.lowest / 10)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(UserError, match=r"search\.low"):
        read_range(tmp_path)


def test_the_rate_rises_over_the_whole_run_by_the_same_factor_a_step():
    rate = RangeTest(1e-3).over(2.0, 7)
    np.testing.assert_allclose(
        [rate(step) for step in range(7)], np.geomspace(2e-3, 2, 7), rtol=1e-5
    )
    with pytest.raises(UserError, match=r"schedule\.begin"):
        RangeTest(1.0).over(2.0, 7)


def test_the_run_of_the_test_has_no_other_schedule():
    words = words_of_range(section(low=0.1, high=10.0), ["schedule=steps", "schedule.warmup=0.2"])
    assert "schedule=range_test" in words
    assert "schedule.begin=0.01" in words
    assert not any("steps" in word or "warmup" in word for word in words if "schedule" in word)
