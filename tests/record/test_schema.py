"""Run directories in any state are read through one schema."""

import json

from deeper.record.schema import RESULT, read_run
from tests.study.conftest import write_net


def test_what_a_run_was_given_is_read_from_its_record_and_not_from_a_command(tmp_path):
    given = ["study=depth_test", "model.depth=20", "runs='/a b'"]
    path = write_net(tmp_path, True, 20, 0, 1.0, facts={"overrides": given, "command": "'"})
    run = read_run(path)
    assert run.words == given
    assert run.setting("model.depth") == "20"
    assert run.overrides["runs"] == "/a b"


def test_a_run_of_before_overrides_were_recorded_has_its_commands(tmp_path):
    command = "deeper train model.depth=20 seed=3"
    facts = {"command": command, "overrides": None}
    path = write_net(tmp_path, True, 20, 0, 1.0, facts=facts, environment={"overrides": None})
    assert read_run(path).words == ["model.depth=20", "seed=3"]


def test_a_result_that_is_no_object_makes_a_run_damaged(tmp_path):
    path = write_net(tmp_path, True, 20, 0, 1.0)
    (path / RESULT).write_text(json.dumps([1]))
    run = read_run(path)
    assert (run.status, run.metrics) == ("damaged", {})
    assert run.rows
