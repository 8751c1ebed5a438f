"""Files for other programs hold the net that was exported."""

import json

import numpy as np
import pytest

from deeper.models.alexnet import alexnet
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
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
