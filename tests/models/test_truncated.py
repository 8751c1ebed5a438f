"""Truncated nets equal the net up to the stage; layers of stages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.models.alexnet import alexnet
from deeper.models.feature_maps import LastLayer, truncated
from deeper.models.googlenet import googlenet
from deeper.models.initializers import initialise
from deeper.models.lenet import lenet5
from deeper.models.resnet import resnet
from deeper.models.vgg import vgg
from deeper.profile.stages import stages_of

GREY = (28, 28, 1)
NETS = {
    "residual": (resnet(8, 10, width=4), GREY),
    "scanned": (resnet(20, 10, width=4, scan=True, remat=True), GREY),
    "vgg": (vgg(11, 10, hidden=16, batch_norm=True), GREY),
    "alexnet": (alexnet(10, stem="small", hidden=16), GREY),
    "googlenet": (googlenet(10, stem="small"), (32, 32, 3)),
    "lenet": (lenet5(10), GREY),
}


@pytest.mark.parametrize("name", NETS)
def test_a_truncated_net_is_the_net_up_to_its_stage(name):
    net, shape = NETS[name]
    stage = stages_of(net, shape).names[1]
    cut = truncated(net, stage, 3)
    variables, whole = initialise(cut, 0, shape), initialise(net, 0, shape)
    assert set(variables["params"]) - set(whole["params"]) == {"head"}
    assert set(variables["params"]) < {*whole["params"], "head"}
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)), jnp.float32)
    _, kept = net.apply(whole, images, train=False, mutable=["intermediates"])
    means = kept["intermediates"][f"{stage}_out"][0].mean((1, 2))
    head = variables["params"]["head"]
    expected = means @ head["kernel"] + head["bias"][None]
    found = cut.apply(variables, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert stages_of(cut, shape).names == stages_of(net, shape).names[:2]


def test_stages_follow_the_order_in_which_layers_run():
    stages = stages_of(*NETS["vgg"])
    assert stages.names == [f"stage{i}" for i in range(1, 6)]
    assert stages.layers["stage3"] == (
        "stage3_conv1", "stage3_bn1", "stage3_conv2", "stage3_bn2",
    )  # fmt: skip
    assert stages.layers["hidden"] == ("fc1", "fc2")
    assert stages.head == "fc3"
    assert stages.noise == {"dropout1": "fc2", "dropout2": "fc3"}
    scanned = stages_of(*NETS["scanned"])
    assert scanned.layers["stage1"] == ("conv1", "bn1", "stage1")
    assert not scanned.noise
    assert "aux1" in stages_of(*NETS["googlenet"]).layers["stage4"]


def test_the_last_layer_alone_answers_as_in_its_net():
    net, shape = NETS["residual"]
    variables = initialise(net, 0, shape)
    images = jax.random.normal(jax.random.key(0), (2, *shape))
    _, kept = net.apply(variables, images, train=False, mutable=["intermediates"])
    features = kept["intermediates"]["stage3_out"][0].mean((1, 2))
    alone = LastLayer("fc", 10).apply(variables, features, train=False)
    whole = net.apply(variables, images, train=False)
    np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-6)


def test_a_stage_that_is_not_there_is_named():
    cut = truncated(NETS["residual"][0], "stage9", 3)
    with pytest.raises(ValueError, match="no stage stage9"):
        initialise(cut, 0, GREY)
