"""Checkpoints as artifacts of W&B."""

import json

import jax
import numpy as np
import pytest

from deeper.config.compose import configure
from deeper.errors import UserError
from deeper.record.run_directory import RunDirectory
from deeper.run import initial_weights
from deeper.run.load import open_stored
from deeper.run.run import Run
from deeper.run.train import train_run
from deeper.track.sync import sync
from deeper.track.tracker import Tracker
from deeper.track.wandb_artifacts import fetched, version_of
from tests.cli.conftest import SMALL
from tests.track.conftest import config_of, row
from tests.track.wandb_server import offline_records

NAME = "resnet20-s0-0123abcd"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make_run(path, errors, mode, status="finished", sent=True):
    """Record a run whose checkpoints have the errors, by step."""
    config = config_of(mode)
    config["tracker"]["checkpoints"] = sent
    with RunDirectory.open(path, config, "0123abcd") as directory:
        tracker = Tracker.start(directory, config, pytest.fail)
        tracker.log(row(1))
        for step, error in errors.items():
            place = path / "checkpoints" / str(step)
            (place / "metrics").mkdir(parents=True)
            (place / "metrics" / "metrics").write_text(json.dumps({"validation_error": error}))
            (place / "default").mkdir()
            (place / "default" / "values").write_text(f"values of {step}")
        if status == "finished":
            directory.write_result({"status": "finished", "metrics": {"test/error": 13.5}})
        tracker.finish(status)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({2: 30.0, 4: 10.0, 6: 20.0}, {4: {"best"}, 6: {"last"}}),
        ({2: 30.0, 4: 10.0}, {4: {"best", "last"}}),
        ({2: 1e9, 4: 1e9}, {4: {"best", "last"}}),  # never evaluated
    ],
)
def test_the_best_and_the_last_checkpoint_are_artifacts(path, no_account, errors, expected):
    make_run(path, errors, "offline")
    sent = [r.artifact for r in offline_records(path) if r.WhichOneof("record_type") == "artifact"]
    sent = [one for one in sent if one.type == "model"]
    found = {}
    for one in sent:
        assert one.name == NAME
        found[json.loads(one.metadata)["step"]] = set(one.aliases) - {"latest"}
        names = {entry.path for entry in one.manifest.contents}
        step = json.loads(one.metadata)["step"]
        assert names == {
            "config.yaml",
            f"checkpoints/{step}/metrics/metrics",
            f"checkpoints/{step}/default/values",
        }
    assert found == expected


def test_no_checkpoint_is_sent_unasked(path, no_account):
    make_run(path, {2: 1.0}, "offline", sent=False)
    kinds = [r.artifact.type for r in offline_records(path) if r.HasField("artifact")]
    assert "model" not in kinds


def test_checkpoints_of_a_run_that_was_stopped_are_sent_by_sync(path, online):
    make_run(path, {2: 1.0}, "online", status="interrupted")
    assert not online.artifacts.versions
    assert sync([path], warn=pytest.fail) == {path: 0}
    assert sync([path], warn=pytest.fail) == {path: 0}
    [version] = online.artifacts.versions
    assert version["committed"]
    assert {"best", "last"} <= set(version["aliases"])


def test_an_artifact_comes_back_as_a_run_directory(path, online, cache):
    make_run(path, {2: 1.0, 4: 3.0}, "online")
    place = fetched(f"wandb:someone/deeper/{NAME}:best", "init_from")
    assert version_of(place) == f"wandb:someone/deeper/{NAME}:v0"
    assert (place / "checkpoints/2/default/values").read_text() == "values of 2"
    assert (place / "config.yaml").read_text() == (path / "config.yaml").read_text()
    before = online.requests
    assert fetched(f"wandb:someone/deeper/{NAME}:v0", "init_from") == place
    assert online.requests == before, "a version that is there is not asked for again"
    other = fetched(f"wandb:someone/deeper/{NAME}:last", "init_from")
    assert (other / "checkpoints/4/default/values").read_text() == "values of 4"


def test_an_artifact_that_is_not_there_is_a_mistake(online, cache):
    with pytest.raises(UserError, match=r"init_from=wandb:someone/deeper/none:best cannot be had"):
        fetched("wandb:someone/deeper/none:best", "init_from")


@pytest.mark.parametrize("name", ["net", "a/b:best", "a/b/c", "a/../c:best", "a/b/c:best:v1", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_asked(online, cache, name):
    with pytest.raises(UserError, match="ENTITY/PROJECT/NAME:ALIAS"):
        fetched(f"wandb:{name}", "init_from")
    assert online.requests == 0


def test_without_a_key_it_is_said_what_to_do(no_account, cache):
    with pytest.raises(UserError, match="wandb login"):
        fetched("wandb:someone/deeper/net:best", "init_from")


@pytest.mark.long
@pytest.mark.compiles
def test_a_run_begins_with_an_artifact_and_its_source_is_recorded(
    data_dir, tmp_path, online, cache, monkeypatch
):
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    asked = ["model=resnet", "data=fashion_mnist", *SMALL, "train.steps=4", "mode=quick"]
    asked += ["train.checkpoint_every=0.1", "train.evaluate_every=0.1", "tracker.mode=online"]
    first = train_run(configure(*asked, "tracker.checkpoints=true"), tmp_path / "first").path
    name = next(v["name"] for v in online.artifacts.versions if v["type"] == "model")

    config = configure(*asked, f"init_from=wandb:someone/deeper/{name}:last", "seed=1")
    kept = open_stored(initial_weights.source_of(config), "last", "init_from").variables
    jax.tree.map(np.testing.assert_array_equal, kept, open_stored(first, "last", "run").variables)
    second = train_run(config, tmp_path / "second").path
    number = online.artifacts.named(f"{name}:last")
    recorded = json.loads((second / "net.json").read_text())["init_from"]
    assert recorded == f"wandb:someone/deeper/{name}:v{number}"
    assert online.artifacts.used == [f"a{number}"]
    assert Run(second).config.init_from.endswith(":last")
