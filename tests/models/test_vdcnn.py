"""VDCNN: the published counts, and answers that do not depend on the padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models import layers, valid_region
from deeper.models.initializers import initialise
from deeper.models.vdcnn import vdcnn
from deeper.profile.layer_table import depth_of, layers_of
from deeper.profile.macs import summarise

TEXT = jax.ShapeDtypeStruct((128,), jnp.int32)


@pytest.mark.parametrize("depth", [9, 17, 29, 49])
def test_the_depth_counts_the_convolutions(depth):
    found = layers_of(vdcnn(depth, 4, 70), TEXT)
    assert sum(layer.kind == "conv" for layer in found) == depth
    assert depth_of(found) >= depth + 3  # and the dense layers


def test_what_fills_the_padding_of_a_convolution_is_no_layer_of_its_own():
    rows = layers_of(vdcnn(9, 4, 70), TEXT)
    names = [layer.name for layer in rows if layer.kind != "pool"]
    assert len(names) == len(set(names))
    assert all(layer.parameters for layer in rows if layer.kind == "conv")


def test_parameters_are_those_of_the_layers():
    convolutions = 3 * (16 * 64 + 2 * 64 * 64)
    for before, width in ((64, 128), (128, 256), (256, 512)):
        convolutions += 3 * (before * width + width * width)
    norms = 2 * 2 * (64 + 128 + 256 + 512)
    dense = (8 * 512 + 1) * 2048 + 2049 * 2048 + 2049 * 4
    summary = summarise(vdcnn(9, 4, 70), TEXT)
    assert summary.parameters == 70 * 16 + convolutions + norms + dense


@pytest.mark.parametrize("downsampling", ["convolution", "k_max", "max"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_texts_answer_does_not_depend_on_its_padding(downsampling, residual):
    net = vdcnn(9, 3, 12, residual=residual, downsampling=downsampling, width=4, hidden=8)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: (leaf * rng.uniform(0.5, 1, leaf.shape) + 0.01).astype(np.float32),
        initialise(net, 0, TEXT),
    )
    lengths = [96, 70, 9]
    texts = np.zeros((3, 128), np.int32)
    for row, length in zip(texts, lengths, strict=True):
        row[:length] = rng.integers(1, 12, length)
    apply = jax.jit(lambda texts: net.apply(variables, texts, train=False))
    together = np.asarray(apply(texts))
    shorter = np.asarray(apply(texts[:, :96]))
    np.testing.assert_allclose(together, shorter, rtol=0, atol=5e-6 * np.abs(together).max())
    assert np.abs(together - together[0]).max() > 0

    rows = np.asarray(jax.nn.one_hot(texts, 12)) * (texts != 0)[..., None]
    np.testing.assert_allclose(
        net.apply(variables, rows, train=False),
        together,
        rtol=0,
        atol=1e-5 * np.abs(together).max(),
    )


def test_k_max_pooling_keeps_the_largest_in_their_order():
    x = jnp.asarray([[3.0, 1.0, 5.0, 4.0, 9.0], [1.0, 2.0, 9.0, 9.0, 9.0]])[..., None]
    np.testing.assert_array_equal(layers.k_max_pool(x[:1], 3)[0, :, 0], [5, 4, 9])
    with valid_region.padded_sequences(5, jnp.asarray([4, 2])):
        np.testing.assert_array_equal(layers.k_max_pool(x, 3)[..., 0], [[3, 5, 4], [1, 2, 0]])
    with valid_region.padded_sequences(5, jnp.asarray([4, 2])):
        halved = layers.k_max_pool(x, 3, share=2)
        np.testing.assert_array_equal(halved[..., 0], [[5, 4, 0], [2, 0, 0]])


@pytest.mark.parametrize("shape", [(32, 32, 3), (128, 12)])
def test_a_net_of_tokens_refuses_other_inputs(shape):
    with pytest.raises(UserError, match="tokens"):
        summarise(vdcnn(9, 3, 70), shape)


def test_a_text_too_short_for_the_net_is_told_so():
    with pytest.raises(UserError, match="positions"):
        summarise(vdcnn(9, 3, 70), jax.ShapeDtypeStruct((40,), jnp.int32))
