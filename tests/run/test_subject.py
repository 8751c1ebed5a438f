"""A run's net with pictures, for the figures of what it sees."""

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from deeper.config.compose import configure
from deeper.run import build
from deeper.run.subject import subject_of
from deeper.run.weights import import_weights
from deeper.weights.torchvision import state_dict_shapes


@pytest.fixture
def imported(tmp_path):
    """Weights of a net of eight classes; no data say what they are."""
    config = configure(
        "model=resnet", "model.depth=18", "model.width=4", "data=imagenet", "data.classes=8",
        "data.image_shape=[32,32,3]", f"data.dir={tmp_path}",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shapes = state_dict_shapes(build.build_model(config))
    arrays = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(arrays, tmp_path / "eight.safetensors")
    import_weights(config, str(tmp_path / "eight.safetensors"), tmp_path / "imported")
    return tmp_path / "imported"


def test_imported_weights_are_called_by_their_file_and_pictures_by_theirs(imported, tmp_path):
    (tmp_path / "own" / "cats").mkdir(parents=True)
    for name in ("cats/a.png", "b.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "own" / name)
    subject = subject_of(imported, "run", images=tmp_path / "own")
    assert "eight.safetensors" in subject.title and "8 classes" in subject.title
    assert "imagenet" not in subject.title
    assert list(subject.names) == ["b.png", "cats/a.png"]
    assert subject.images.shape == (2, 32, 32, 3)
