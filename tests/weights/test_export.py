"""Files for other programs hold the net that was exported."""

import json

import jax
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.alexnet import alexnet
from deeper.models.deepbind import deepbind
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.textcnn import textcnn
from deeper.models.vgg import vgg
from deeper.models.waveform import waveform
from deeper.weights import export

NETS = {
    "lenet5 of 1998": (lenet5(10, form="1998"), (28, 28, 1)),
    "alexnet of 2012": (alexnet(10, form="2012", hidden=32), (67, 67, 3)),
    "vgg11": (vgg(11, 10, hidden=32), (32, 32, 3)),
    "googlenet": (googlenet(10), (64, 64, 3)),
    "resnet18": (resnet(18, 10), (64, 64, 3)),
    "resnet20": (resnet(20, 10), (32, 32, 3)),
    "resnet20, pre-activation": (resnet(20, 10, pre_activation=True), (32, 32, 3)),
}


@pytest.mark.parametrize("name", NETS)
def test_an_onnx_file_gives_the_nets_logits_for_any_batch(name, tmp_path):
    # The export itself compares onnxruntime's logits with ours and refuses a file that is off.
    pytest.importorskip("jax2onnx", reason="needs the extra onnx, which .ci/run installs")
    import onnxruntime

    model, shape = NETS[name]
    mean, std = (0.4,) * shape[2], (0.2,) * shape[2]
    classes = tuple(f"class {i}" for i in range(10))
    metadata = export.Metadata(name, shape, mean, std, classes, step=3)
    out = tmp_path / "net.onnx"
    export.onnx(model, initialise(model, 0, shape), metadata, out)
    session = onnxruntime.InferenceSession(out)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(classes)
    images = np.random.default_rng(1).integers(0, 256, (5, *shape)).astype(np.uint8)
    feed = session.get_inputs()[0].name
    (five,) = session.run(None, {feed: images})
    (one,) = session.run(None, {feed: images[2:3]})
    assert five.shape == (5, 10)
    np.testing.assert_allclose(one, five[2:3], rtol=1e-4, atol=1e-4 * np.abs(five).max())


SEQUENCES = {
    "M5": (waveform(5, 3, width_multiplier=0.06), (4000, 1)),
    "deepbind": (deepbind(3, motifs=4, length=6), (20, 4)),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_an_onnx_file_of_a_net_of_sequences_gives_its_logits(name, tmp_path):
    pytest.importorskip("jax2onnx", reason="needs the extra onnx, which .ci/run installs")
    import onnxruntime

    model, shape = SEQUENCES[name]
    metadata = export.ExampleMetadata(name, shape, "float32", None, ("a", "b", "c"), step=3)
    variables = initialise(model, 0, shape)
    out = tmp_path / "net.onnx"
    export.onnx(model, variables, metadata, out)
    session = onnxruntime.InferenceSession(out)
    examples = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: examples})
    expected = np.asarray(model.apply(variables, examples, train=False))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_a_net_that_jax2onnx_does_not_know_is_refused_in_a_sentence(tmp_path):
    # Nets of texts leave the padding out by operations that jax2onnx 0.17 fails at.
    pytest.importorskip("jax2onnx", reason="needs the extra onnx, which .ci/run installs")
    example = jax.ShapeDtypeStruct((12,), "int32")
    model = textcnn(3, 20, features=5, maps=4)
    metadata = export.ExampleMetadata("textcnn", (12,), "int32", None, ("a", "b", "c"), step=3)
    out = tmp_path / "net.onnx"
    with pytest.raises(UserError, match=r"Take \.stablehlo"):
        export.onnx(model, initialise(model, 0, example), metadata, out)
    assert not out.exists()
