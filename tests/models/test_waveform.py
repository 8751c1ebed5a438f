"""Nets of raw waveforms have the layers of the paper's table."""

import jax
import jax.numpy as jnp
import pytest

from deeper.errors import UserError
from deeper.models.initializers import shapes_of
from deeper.models.waveform import waveform
from deeper.profile.macs import summarise

# Depth, shortcuts -> parameters by the table's layers, BatchNorm and ten classes; millions as the
# paper states them (M5's 0.558 is cut off, not rounded).
PUBLISHED = {
    (3, False): (220_682, 0.2),
    (5, False): (558_090, 0.5),
    (11, False): (1_784_202, 1.8),
    (18, False): (3_679_882, 3.7),
    (34, True): (3_972_778, 4.0),
    (34, False): (3_972_778, None),
}


@pytest.mark.parametrize("depth, residual", PUBLISHED)
def test_a_waveform_net_has_the_published_number_of_parameters(depth, residual):
    parameters, millions = PUBLISHED[depth, residual]
    summary = summarise(waveform(depth, 10, residual=residual), (32000, 1))
    assert summary.parameters == parameters
    assert millions is None or abs(parameters / 1e6 - millions) < 0.06


def test_the_maps_have_the_lengths_of_the_table():
    net = waveform(18, 10, width_multiplier=1 / 16)
    variables = shapes_of(net, (32000, 1))
    _, state = jax.eval_shape(
        lambda v, x: net.apply(v, x, train=False, mutable=["intermediates"]),
        variables,
        jax.ShapeDtypeStruct((1, 32000, 1), jnp.float32),
    )
    lengths = {k: v[0].shape for k, v in state["intermediates"].items() if k.endswith("_out")}
    assert [lengths[f"stage{i}_out"][1] for i in (1, 2, 3, 4)] == [2000, 500, 125, 32]


@pytest.mark.parametrize("depth, residual", [(4, False), (11, True), (3, True)])
def test_a_waveform_net_that_is_not_there_is_refused(depth, residual):
    with pytest.raises(UserError, match=r"model\."):
        waveform(depth, 10, residual=residual)
    with pytest.raises(UserError, match=r"model\."):
        waveform(18, 10, width_multiplier=0)
