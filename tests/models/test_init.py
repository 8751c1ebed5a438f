"""How the kernels of residual and plain nets begin, and what nets of equal cost cost."""

import numpy as np
import pytest

from deeper.config.compose import configure
from deeper.config.identity import config_hash
from deeper.errors import UserError
from deeper.models.initializers import HeNormal, Orthonormal, initialise
from deeper.models.resnet import resnet
from deeper.profile.macs import summarise
from deeper.run import build


@pytest.mark.parametrize("shape", [(3, 3, 4, 8), (3, 3, 8, 8), (1, 1, 4, 16)])
def test_an_orthonormal_kernel_has_equal_singular_values_and_the_size_of_he_normal(shape):
    kernel = Orthonormal().draw(np.random.default_rng(0), shape)
    values = np.linalg.svd(kernel.reshape(-1, shape[-1]), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-5)
    usual = HeNormal("out").draw(np.random.default_rng(0), (*shape[:2], 64, shape[-1]))
    assert kernel.std() == pytest.approx(usual.std(), rel=0.1)


def test_orthonormal_kernels_are_those_of_the_blocks_alone():
    shape = (28, 28, 1)
    usual, other = (
        initialise(resnet(8, 10, width=4, stem="stride2", init=init), 0, shape)["params"]
        for init in ("he", "orthonormal")
    )
    kernel = np.asarray(other["stage2"]["block1"]["conv2"]["kernel"])
    values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
    np.testing.assert_allclose(values, values[0], rtol=1e-4)
    np.testing.assert_array_equal(usual["fc"]["kernel"], other["fc"]["kernel"])
    with pytest.raises(UserError):
        resnet(8, 10, init="zero")


def test_a_net_of_unequal_width_and_depth_has_the_cost_of_the_others():
    costs = {}
    for depth in (8, 14, 20, 32, 44, 56):
        config = configure("study=width_depth", f"model.depth={depth}")
        costs[depth] = summarise(build.build_model(config), build.example_of(config))
    for cost in costs.values():
        assert cost.macs == pytest.approx(costs[20].macs, rel=0.06)
        assert cost.parameters == pytest.approx(costs[20].parameters, rel=0.05)


def test_the_beginning_that_nets_always_had_is_no_part_of_the_hash():
    config = configure("model=resnet", "data=fashion_mnist").plain()
    older = {key: value for key, value in config["model"].items() if key != "init"}
    assert config_hash(config) == config_hash({**config, "model": older})
    other = configure("model=resnet", "model.init=orthonormal", "data=fashion_mnist").plain()
    assert config_hash(config) != config_hash(other)
