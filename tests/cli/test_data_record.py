"""The record of a run's data, with which present data are compared."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from deeper.config.compose import configure
from deeper.data.prepare.prepare import prepare
from deeper.run import data_record, load
from deeper.run.class_names import class_names
from deeper.run.dataset import open_splits
from deeper.sweep import code_snapshot
from deeper.sweep.claim import arms_of, claim
from tests.cli.conftest import starting
from tests.data import tiny

SHORT = (
    "model=lenet5",
    "optimizer.learning_rate=0.01",
    "train.batch_size=16",
    "train.steps=4",
    "train.epochs=null",
    "train.train_error_examples=50",
    "data.validation=100",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    directory = tmp_path_factory.mktemp("trained")
    done = starting(directory, data_dir)("train", *SHORT)
    assert done.returncode == 0, done.output
    [run] = directory.glob("runs/single/*")
    return run


@pytest.fixture(scope="module")
def other_data(tmp_path_factory):
    """A data set of the same name, classes and shape, with other images."""
    root = tmp_path_factory.mktemp("other")
    sizes = {"train": 601, "test": 203}
    with pytest.MonkeyPatch.context() as patch:
        tiny.install("fashion_mnist", root / "original", patch.setitem, patch.setattr, sizes=sizes)
        prepare("fashion_mnist", root / "prepared", root / "original")
    return root / "prepared"


@pytest.fixture
def run(trained, tmp_path):
    """The run, to be changed, where `deeper train` finds it again."""
    return shutil.copytree(trained, tmp_path / "runs" / "single" / trained.name)


def test_a_run_records_what_its_data_are_and_how_it_shows_them(trained, data_dir):
    record = json.loads((trained / "data.json").read_text())
    config = load.config_of(trained, "run")
    dataset = open_splits(config).dataset
    assert record["fingerprint"] == dataset.fingerprint
    assert record["class_names"] == list(dataset.class_names)
    assert record["splits"] == {"train": 500, "validation": 100, "test": 203}
    assert record["name"] == "fashion_mnist" and record["version"] == "3.0.1"
    assert record["preprocessing"] == {"image_shape": [28, 28, 1], "mean": [0.286], "std": [0.353]}


def test_a_finished_run_is_not_finished_for_other_data(run, said, mistake, other_data):
    assert "finished already" in said("train", *SHORT)
    message = mistake("train", *SHORT, f"data.dir={other_data}")
    assert "is not the data of the run" in message and "fingerprint" in message
    assert "finished already" in said("train", *SHORT, "data.dir=nowhere")
    (run / "data.json").unlink()  # as a run of an older deeper
    assert "finished already" in said("train", *SHORT, f"data.dir={other_data}")


def test_a_stopped_run_does_not_go_on_with_other_data(run, said, mistake, other_data, data_dir):
    (run / "result.json").unlink()
    message = mistake("train", *SHORT, f"data.dir={other_data}")
    assert "is not the data of the run" in message
    assert str(other_data) not in (run / "config.yaml").read_text()  # a refusal changes nothing
    copy = shutil.copytree(data_dir, run.parents[2] / "copy")
    assert "test error" in said("train", *SHORT, f"data.dir={copy}")


def test_an_older_run_learns_its_data_when_it_goes_on(run, said):
    for name in ("data.json", "result.json"):
        (run / name).unlink()
    said("train", *SHORT)
    assert "fingerprint" in json.loads((run / "data.json").read_text())


def test_data_may_be_replaced_before_the_first_step(run, said, other_data):
    shutil.rmtree(run / "checkpoints")
    (run / "result.json").unlink()
    before = (run / "data.json").read_text()
    said("train", *SHORT, f"data.dir={other_data}")
    assert (run / "data.json").read_text() != before


@pytest.mark.parametrize(
    "command",
    [("evaluate",), ("features",), ("see", "method=activations", "n=1")],
    ids=lambda command: command[0],
)
def test_data_that_moved_are_named_and_looked_at(
    command, run, said, mistake, other_data, data_dir, monkeypatch
):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(data_dir), "/nowhere"))
    verb, *more = command
    assert "say data.dir=DIRECTORY" in mistake(verb, f"run={run}", *more)
    said(verb, f"run={run}", *more, f"data.dir={data_dir}")
    message = mistake(verb, f"run={run}", *more, f"data.dir={other_data}")
    assert "is not the data of the run" in message


def test_other_data_are_asked_about_by_name_although_the_runs_own_are_gone(
    run, said, other_data, data_dir
):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(data_dir), "/nowhere"))
    out = run.parent / "e.json"
    said("evaluate", f"run={run}", "data=fashion_mnist", f"data.dir={other_data}", f"out={out}")
    assert json.loads(out.read_text())["test/n_seen"] == 203


def test_predictions_have_the_runs_own_class_names(run, said, tmp_path):
    names = [f"hue {i}" for i in range(10)]
    for file in (run / "data.json", run / "net.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"class_names": names}))
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "black.png")
    message = said("predict", f"weights={run}", "images=black.png", "data.dir=anywhere")
    assert "hue " in message
    assert class_names(run, load.config_of(run, "run")) == names


def test_a_sweep_does_not_count_what_was_finished_on_other_data(run, other_data, data_dir):
    def taken(place):
        given = [*SHORT, f"data.dir={place}", f"runs={run.parents[1]}"]
        arms = arms_of([configure(*given)], [given])
        assert arms[0].directory == run
        code = code_snapshot.Code(None, "0", None, None, None)
        return claim(arms, run.parents[1], "local", code, {}, lambda it: None)

    assert len(taken(data_dir).finished) == 1
    [(_, reason)] = taken(other_data).failed
    assert "is not the data of the run" in reason


def test_what_differs_is_said(trained, data_dir):
    config = configure(*SHORT, f"data.dir={data_dir}")
    present = data_record.record_of(config, open_splits(config))
    assert data_record.differences(json.loads((trained / "data.json").read_text()), present) == []
    [message] = data_record.differences(
        present | {"class_names": ["blue", "green", "red"]}, present
    )
    assert "were blue, green, red (3)" in message
    shown = present["preprocessing"] | {"exif": "apply"}  # of a later deeper: it is not compared
    assert data_record.differences(present | {"preprocessing": shown}, present) == []
    [message] = data_record.differences(
        present | {"preprocessing": shown | {"mean": [0.5]}}, present
    )
    assert "mean is [0.286], and was [0.5]" in message
