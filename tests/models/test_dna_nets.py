"""Nets of DNA: the published counts, and both strands."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.dna import one_hot, reverse_complement
from deeper.errors import UserError
from deeper.interpret.attribution import METHODS, ON_MAPS, attribute
from deeper.models.basset import basset
from deeper.models.deepbind import deepbind
from deeper.models.deepsea import deepsea
from deeper.models.initializers import initialise
from deeper.models.zeng import zeng
from deeper.profile.layer_table import layers_of
from deeper.profile.macs import summarise

rng = np.random.default_rng(0)
BASES = rng.integers(0, 5, (3, 101)).astype(np.uint8)


def test_deepsea_has_the_published_parameter_count():
    assert summarise(deepsea(919), (1000, 4)).parameters == 52_843_119  # Quang and Xie 2016


def test_basset_has_the_parameters_of_the_papers_layers():
    convolutions = (4 * 19 + 3) * 300 + (300 * 11 + 3) * 200 + (200 * 7 + 3) * 200
    dense = (200 * 10 + 3) * 1000 + (1000 + 3) * 1000 + 1001 * 164
    assert summarise(basset(164), (600, 4)).parameters == convolutions + dense


@pytest.mark.parametrize(("strands", "pool", "inputs"), [("max", "max", 16), ("one", "max", 16),
                                                        ("mean", "max_and_mean", 32)])  # fmt: skip
def test_deepbind_has_the_parameters_of_the_papers_layers(strands, pool, inputs):
    net = deepbind(1, strands=strands, pool=pool)
    expected = (4 * 24 + 1) * 16 + (inputs + 1) * 32 + 33
    assert summarise(net, (101, 4)).parameters == expected


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_depth_counts_the_convolutions(depth):
    found = layers_of(zeng(2, depth=depth, width=8), (101, 4))
    assert sum(layer.kind == "conv" for layer in found) == depth


def test_local_pooling_tells_where_a_motif_is_and_global_pooling_does_not():
    inputs = np.zeros((2, 60, 4), np.float32)
    inputs[0, 24:30] = inputs[1, 36:42] = np.eye(4)[[0, 1, 2, 3, 3, 0]]
    for pool, differs in (("global", False), ("local", True)):
        net = zeng(2, width=8, pool=pool)
        first, second = net.apply(drawn(net, 60), inputs, train=False)
        assert bool(np.abs(first - second).max() > 1e-4) == differs
    with pytest.raises(UserError, match=r"model\.pool"):
        zeng(2, pool="none")


NETS = {
    "deepbind": lambda strands: deepbind(2, strands=strands, dropout=0.0),
    "basset": lambda strands: basset(2, scale=0.05, strands=strands, dropout=0.0),
    "deepsea": lambda strands: deepsea(2, scale=0.03, strands=strands),
    "zeng": lambda strands: zeng(2, depth=2, strands=strands),
}


def drawn(net, length=101):
    """Return variables away from zero and symmetry."""
    variables = initialise(net, 0, (length, 4))
    noise = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: np.float32(leaf * noise.uniform(0.5, 1, leaf.shape) + 0.01), variables
    )


@pytest.mark.parametrize("strands", ["mean", "max"])
@pytest.mark.parametrize("name", NETS)
def test_an_answer_on_both_strands_does_not_depend_on_which_is_given(name, strands):
    net = NETS[name](strands)
    bases = np.tile(BASES, (1, 3)) if name in ("basset", "deepsea") else BASES
    variables = drawn(net, bases.shape[1])
    given = net.apply(variables, one_hot(jnp.asarray(bases)), train=False)
    other = net.apply(variables, one_hot(reverse_complement(jnp.asarray(bases))), train=False)
    np.testing.assert_allclose(given, other, rtol=1e-5, atol=1e-6)
    assert np.abs(given - given[:1]).max() > 0

    one = NETS[name]("one")
    inner = {kind: tree["net"] for kind, tree in flax.core.unfreeze(variables).items()}
    alone = one.apply(inner, one_hot(jnp.asarray(bases)), train=False)
    assert np.abs(np.asarray(given) - np.asarray(alone)).max() > 1e-4


@pytest.mark.parametrize("name", NETS)
def test_other_inputs_are_refused(name):
    with pytest.raises(UserError, match="DNA"):
        summarise(NETS[name]("one"), (32, 32, 3))


def test_an_unknown_strand_is_refused():
    with pytest.raises(UserError, match=r"model\.strands"):
        deepbind(2, strands="both")


@pytest.mark.parametrize("method", METHODS)
def test_every_attribution_method_takes_a_net_on_both_strands(method):
    net = deepbind(2, motifs=4, length=8)
    inputs = one_hot(jnp.asarray(BASES[:, :30]))
    found = attribute(net, drawn(net, 30), inputs, method=method, classes=1)
    assert found.maps.shape == (3, 30) and np.isfinite(found.maps).all()
    # Grad-CAM sees the given strand's maps, and is zero where the other one has the larger score.
    assert found.maps.any() or method in ON_MAPS
