"""A run's net with pictures, for the figures of what it sees."""

import numpy as np
import pytest
import yaml
from PIL import Image

from deeper.config.compose import configure
from deeper.models.initializers import initialise
from deeper.run import build, device
from deeper.run.subject import subject_of
from deeper.train.checkpoint import Checkpoints


@pytest.fixture
def imported(tmp_path):
    """Weights of eight classes as an import leaves them: without a record of their training."""
    config = configure(
        "model=resnet", "model.depth=8", "model.width=4", "data=imagenet", "data.classes=8",
        "data.image_shape=[16,16,3]", f"data.dir={tmp_path}",
    )  # fmt: skip
    out = tmp_path / "eight"
    out.mkdir()
    (out / "config.yaml").write_text(yaml.safe_dump(config.plain()), encoding="utf-8")
    checkpoints = Checkpoints(out / "checkpoints", device.one())
    checkpoints.save_variables(initialise(build.build_model(config), 0, (16, 16, 3)))
    checkpoints.close()
    return out


def test_imported_weights_are_called_by_their_directory_and_pictures_by_their_files(
    imported, tmp_path
):
    (tmp_path / "own" / "cats").mkdir(parents=True)
    for name in ("cats/a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / name)
    subject = subject_of(imported, "run", images=tmp_path / "own")
    assert "eight" in subject.title and "8 classes" in subject.title
    assert "imagenet" not in subject.title
    assert list(subject.names) == ["b.png", "cats/a.png"]
    assert subject.images.shape == (2, 16, 16, 3)
