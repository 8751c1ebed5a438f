"""Weights go in and out from Python as they do from the command line."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deeper.config.compose import configure
from deeper.errors import UserError
from deeper.run import build
from deeper.run.export import export_weights
from deeper.run.weights import import_weights
from deeper.weights.torchvision import state_dict_shapes

WORDS = ("model=vgg", "model.depth=11", "model.hidden=16")


@pytest.fixture(scope="module")
def config():
    return configure(*WORDS, "data=imagenet")


def test_weights_that_are_imported_are_exported_as_they_were(config, tmp_path, capsys):
    rng = np.random.default_rng(0)
    shapes = state_dict_shapes(build.build_model(config))
    arrays = {name: rng.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(arrays, tmp_path / "vgg11.safetensors")
    done = import_weights(str(tmp_path / "vgg11.safetensors"), tmp_path / "imported", *WORDS)
    assert (done.arrays, done.new) == (len(arrays), ())
    assert done.config.data == config.data
    assert export_weights(tmp_path / "imported", tmp_path / "again.safetensors") == 0
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(again[name], values)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(UserError, match="not empty"):
        import_weights(str(tmp_path / "vgg11.safetensors"), tmp_path / "imported")


def test_a_file_of_an_unknown_format_is_not_exported(tmp_path):
    with pytest.raises(UserError, match="onnx"):
        export_weights(tmp_path, tmp_path / "net.pt")
