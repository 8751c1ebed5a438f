"""From a folder of sound files to a trained net, its answers and what they depend on."""

import shutil

import numpy as np
import pytest

import deeper
from tests.data.sound_files import tree

OVERRIDES = (
    "data=sounds", "data.name=tones", "data.classes=2", "data.length=400", "data.kept=800",
    "train.batch_size=8", "train.steps=6", "train.steps_per_call=2", "train.log_every=2",
    "tracker.mode=disabled",
)  # fmt: skip
# With AdamW probabilities stay between 0 and 1 so early, so that what hides a part changes them.
WAVEFORM = ("model=waveform", "model.depth=18", "model.width_multiplier=0.06", "optimizer=adamw")


def config_of(tmp_path, *more):
    places = (f"data.dir={tmp_path / 'data'}", f"runs={tmp_path / 'runs'}")
    source = f"data.prepare.source={tmp_path / 'files'}"
    return deeper.configure(*OVERRIDES, *places, source, *more)


@pytest.mark.long
def test_a_net_of_sounds_trains_resumes_and_answers(tmp_path):
    files = tree(tmp_path / "files", 20)
    config = config_of(tmp_path, *WAVEFORM, "data.validation=8")
    deeper.prepare(config)
    run = deeper.train(config, progress=False)
    polls = iter(range(100))
    again = config.replace(runs=str(tmp_path / "cut"))
    assert deeper.train(again, progress=False, stop_asked=lambda: next(polls) >= 1).status == (
        "unfinished"
    )
    assert deeper.train(again, progress=False).metrics == run.metrics
    assert run.evaluate()["test/error"] == run.metrics["test/error"]

    shutil.rmtree(tmp_path / "data")
    (files / "low" / "bad.wav").write_bytes(b"RIFF")
    answers = run.predict(files / "low")
    assert answers.class_names == ("high", "low") and len(answers) == 20
    assert len(answers.left_out) == 1
    asked = [files / "low" / "0.wav", files / "high" / "3.wav"]
    for method in ("integrated_gradients", "occlusion", "grad_cam"):
        found = run.attribute(method, asked, classes=["low", "high"])
        assert found.maps.shape == (2, 400) and found.maps.any()
        found.figure()


@pytest.mark.long
def test_a_net_of_images_sees_sounds_as_spectrograms(tmp_path):
    tree(tmp_path / "files")
    config = config_of(
        tmp_path, "arm=log_mel", "augment=specaugment", "model=resnet", "model.width=4",
        "model.depth=8", "data.kept=8000", "data.length=8000", "train.steps=2",
    )  # fmt: skip
    deeper.prepare(config)
    run = deeper.train(config, progress=False)
    found = run.attribute("gradient", tmp_path / "files" / "low" / "0.wav")
    assert found.maps.shape == (1, 40, 63)
    assert np.isfinite(found.maps).all()
    found.figure()
