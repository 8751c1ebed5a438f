"""A profile of some steps says where their time goes, and changes nothing else of a run."""

import json

import jax
import pytest

from deeper.config.compose import configure
from deeper.config.identity import config_hash, run_directory
from deeper.errors import UserError
from deeper.profile.compiled_program import read_program
from deeper.run.build import make_plan
from deeper.run.step_profile import Event, busy_time, kind_of, read_events, summary_of
from deeper.run.train import train_run
from tests.profile.test_compiled_program import TEXT

SHORT = (
    "model=lenet5", "train.batch_size=16", "train.epochs=null", "train.steps=12",
    "train.steps_per_call=4", "train.log_every=6", "data.validation=0", "tracker.mode=disabled",
    "train.train_error_examples=32",
)  # fmt: skip
CLOCK = ("time", "images_per_second")


def config_of(*more):
    return configure(*SHORT, *more)


@pytest.mark.compiles
def test_profiling_writes_a_summary_and_changes_no_number(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    rows = {}
    for name, more in {"as always": (), "profiled": ("train.profile=[6,9]",)}.items():
        path = tmp_path / name
        assert train_run(config_of(*more), path).status == "finished"
        text = (path / "metrics.jsonl").read_text().splitlines()
        rows[name] = [
            {key: value for key, value in json.loads(line).items() if key not in CLOCK}
            for line in text
        ]
    assert rows["profiled"] == rows["as always"]
    assert not (tmp_path / "as always" / "profile").exists()
    place = tmp_path / "profiled" / "profile"
    page = (place / "summary.md").read_text()
    assert "Steps 6 to 9" in page and "MB a call" in page
    events = list(read_events(place))
    calls = [event for event in events if "conv" in event.name or "fusion" in event.name]
    assert len({event.device for event in events}) == len(jax.devices())
    assert calls and all(event.duration >= 0 for event in events)


def test_a_profile_is_no_part_of_a_runs_identity():
    plain, profiled = config_of().plain(), config_of("train.profile=[6,9]").plain()
    assert config_hash(profiled) == config_hash(plain)
    assert run_directory(profiled) == run_directory(plain)
    older = {**plain, "train": {k: v for k, v in plain["train"].items() if k != "profile"}}
    assert config_hash(older) == config_hash(plain)


@pytest.mark.parametrize("steps", ["[9,6]", "[1,13]"])
def test_steps_that_the_run_does_not_have_are_refused(steps):
    with pytest.raises(UserError, match=r"train\.profile=.* 1 to 12"):
        make_plan(config_of(f"train.profile={steps}"), 192)


def test_gaps_are_what_no_operation_fills():
    events = [Event("a.1", "gpu", 0, 10), Event("a.2", "gpu", 5, 10), Event("z", "gpu", 20, 5)]
    assert busy_time(events) == 20
    assert [kind_of(name) for name in ("fusion.12", "a.clone.3", "b")] == ["fusion", "a", "b"]
    page = summary_of([Event("y", "gpu", 0, 3e6), Event("z", "gpu", 4e6, 1e6)], 1, 1, None)
    assert "5.000 from" in page and "4.000 with" in page and "1.000 in gaps" in page
    program = read_program(TEXT)
    page = summary_of([Event("z", "gpu", 0, 1)], 1, 1, program)
    assert f"{program.kernels} kernels" in page
    by_operation = [row for row in page.splitlines() if row.startswith("| z |")][-1]
    assert by_operation.endswith(f"| {program.traffic_of['z'] / 1e6:,.1f} |")
    assert "no operations" in summary_of([], 1, 1, None)
