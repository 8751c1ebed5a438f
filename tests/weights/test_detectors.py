"""Files of torchvision's Faster R-CNN become runs, and runs begin from them."""

import numpy as np
import pytest
from safetensors.numpy import save_file

import deeper
from deeper.models.detection.faster_rcnn import faster_rcnn
from deeper.models.initializers import initialise
from deeper.models.resnet import resnet
from deeper.run import build, load
from deeper.run.initial_weights import beginning
from deeper.run.weights import import_weights
from deeper.weights import torchvision

SMALL = ("model.channels=8", "model.hidden=16")
SHAPE = (64, 64, 3)


def older(name):
    """Return the name that torchvision's published files have."""
    for part in ("inner_blocks", "layer_blocks"):
        for i in range(4):
            name = name.replace(f"fpn.{part}.{i}.0.", f"fpn.{part}.{i}.")
    return name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")


@pytest.fixture(params=["new", "old"])
def file_and_net(request, tmp_path):
    net = faster_rcnn(resnet(18, 1, width=8), 4, channels=8, hidden=16)
    variables = initialise(net, 3, SHAPE)
    arrays = torchvision.revert(variables, net, SHAPE)
    if request.param == "old":
        arrays = {f"model.{older(name)}": array for name, array in arrays.items()}
    path = tmp_path / "detector.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path, variables


def test_a_file_of_torchvisions_detector_is_recognised_and_imported(file_and_net, tmp_path):
    path, variables = file_and_net
    found = import_weights(str(path), tmp_path / "net", *SMALL)
    assert found.config.label == "fasterrcnn_resnet18_fpn" and not found.new
    assert found.config.data.classes == 4
    stored = load.open_stored(tmp_path / "net", "last", "weights")
    for one, other in (("backbone", "conv1"), ("head", "fc1"), ("rpn", "score")):
        np.testing.assert_array_equal(
            stored.variables["params"][one][other]["kernel"],
            variables["params"][one][other]["kernel"],
        )


@pytest.mark.long
def test_a_run_for_other_classes_begins_from_a_detector_with_a_new_head(file_and_net, tmp_path):
    path, variables = file_and_net
    config = deeper.configure(
        "data=scenes", "model=faster_rcnn", "model.backbone.depth=18", "model.backbone.width=8",
        *SMALL, f"init_from={path}", f"runs={tmp_path}",
    )  # fmt: skip
    begin = beginning(config, build.make_plan(config, 100), _NoVectors())
    assert set(begin.new) == {"class", "box"}
    kept = begin.variables["params"]["pyramid"]["lateral1"]["kernel"]
    np.testing.assert_array_equal(kept, variables["params"]["pyramid"]["lateral1"]["kernel"])


@pytest.mark.long
def test_a_run_begins_from_a_file_of_a_classifier(tmp_path):
    net = resnet(18, 1000, width=8)
    variables = initialise(net, 3, SHAPE)
    save_file(
        {n: np.ascontiguousarray(a) for n, a in torchvision.revert(variables, net, SHAPE).items()},
        tmp_path / "resnet18.safetensors",
    )
    config = deeper.configure(
        "data=scenes", "model=faster_rcnn", "model.backbone.depth=18", "model.backbone.width=8",
        *SMALL, f"init_from={tmp_path / 'resnet18.safetensors'}", f"runs={tmp_path}",
    )  # fmt: skip
    begin = beginning(config, build.make_plan(config, 100), _NoVectors())
    kept = begin.variables["params"]["backbone"]["stage4"]["block2"]["conv2"]["kernel"]
    np.testing.assert_array_equal(kept, variables["params"]["stage4"]["block2"]["conv2"]["kernel"])
    assert {name.split("/")[0] for name in begin.new} >= {"pyramid", "rpn", "class", "box"}


class _NoVectors:
    token_vectors = None
    reader = None
