"""Nets for sequences, tokens and vectors: initialisation, counts, layer tables, freezing,
features.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from deeper.interpret.features import extract, inputs_of, outputs_of
from deeper.interpret.traced_net import LOGITS, TracedNet
from deeper.models.adapters import adapted
from deeper.models.example import batch_of
from deeper.models.feature_maps import truncated
from deeper.models.from_nnx import FromNNX
from deeper.models.initializers import initialise, shapes_of
from deeper.profile.layer_table import depth_of, layers_of
from deeper.profile.macs import summarise
from deeper.profile.stages import stages_of
from deeper.train.phases import Phase


class Sequences(nn.Module):
    """Two convolutions over (length, channels)."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(nn.Conv(8, (5,), strides=2, padding="VALID", name="conv1")(x))
        self.sow("intermediates", "stage1_out", x)
        x = nn.Conv(16, (3,), padding="SAME", name="conv2")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="bn2")(x))
        self.sow("intermediates", "stage2_out", x)
        x = nn.Dropout(0.5, deterministic=not train, name="dropout")(x.mean(1))
        return nn.Dense(10, name="fc")(x)


class Tokens(nn.Module):
    """A table of vectors, a convolution over their positions and a dense layer at each."""

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(50, 6, name="embed")(tokens)
        self.sow("intermediates", "stage1_out", x)
        x = nn.relu(nn.Conv(8, (3,), padding="VALID", name="conv1")(x))
        x = nn.relu(nn.Dense(4, name="position")(x))
        self.sow("intermediates", "stage2_out", x)
        return nn.Dense(10, name="fc")(x.mean(1))


class Vectors(nn.Module):
    """Dense layers."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Dense(12, name="fc1")(x))
        self.sow("intermediates", "stage1_out", x)
        x = nn.relu(nn.Dense(7, name="fc2")(x))
        self.sow("intermediates", "stage2_out", x)
        return nn.Dense(10, name="fc3")(x)


TOKENS = jax.ShapeDtypeStruct((20,), jnp.int32)
# net, example, parameters, multiply-accumulates, depth, receptive field of the last map
NETS = {
    "sequences": (
        Sequences(), (31, 3), (5 * 3 * 8 + 8) + (3 * 8 * 16 + 16) + 32 + 170,
        14 * 5 * 3 * 8 + 14 * 3 * 8 * 16 + 160, 3, 5 + 2 * 2,
    ),
    "tokens": (
        adapted(Tokens()), TOKENS, 50 * 6 + (3 * 6 * 8 + 8) + 36 + 50,
        18 * 3 * 6 * 8 + 18 * 8 * 4 + 40, 3, 3,
    ),
    "vectors": (
        Vectors(), (5,), (5 * 12 + 12) + (12 * 7 + 7) + 80, 5 * 12 + 12 * 7 + 70, 3, None,
    ),
}  # fmt: skip


def inputs(example, n=4):
    batch = batch_of(example, n)
    rng = np.random.default_rng(0)
    if jnp.issubdtype(batch.dtype, jnp.integer):
        return rng.integers(0, 50, batch.shape, np.int32)
    return rng.normal(size=batch.shape).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_a_net_on_any_kind_of_input_is_initialised_and_counted(name):
    net, example, parameters, macs, _, _ = NETS[name]
    variables = initialise(net, 0, example)
    counted = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    summary = summarise(net, example)
    assert counted == summary.parameters == parameters
    assert summary.macs == macs
    assert summary.residual_bytes > 0
    kernels = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim > 1]
    assert all(kernel.std() > 0 for kernel in kernels)
    assert net.apply(variables, inputs(example), train=False).shape == (4, 10)


@pytest.mark.parametrize("name", NETS)
def test_the_layer_table_of_any_kind_of_input(name):
    net, example, parameters, macs, depth, size = NETS[name]
    layers = layers_of(net, example)
    assert sum(layer.parameters for layer in layers) == parameters
    assert sum(layer.macs for layer in layers) == macs
    assert depth_of(layers) == depth
    fields = [layer.field for layer in layers if layer.field is not None]
    if size is None:
        assert not fields
    else:
        assert [field for field in fields if field.jump][-1].size == size
        assert fields[-1].size >= batch_of(example, 1).shape[1]  # the mean sees all positions


def test_the_rows_of_a_table_of_vectors_are_an_embedding_in_the_layer_table():
    first, conv, position, last = layers_of(adapted(Tokens()), TOKENS)
    assert (first.name, first.kind, first.parameters, first.macs) == ("embed", "embedding", 300, 0)
    assert (conv.kernel, conv.stride, conv.padding) == ("3", "1", "0")
    assert position.output == (18, 4) and position.field.size == 3 and position.field.jump == 1
    assert last.field.size == 20


@pytest.mark.parametrize("name", NETS)
def test_stages_of_a_net_on_any_kind_of_input(name):
    net, example, *_ = NETS[name]
    stages = stages_of(net, example)
    assert stages.names == ["stage1", "stage2"]
    assert stages.layers["stage1"] == ({"tokens": "embed", "vectors": "fc1"}.get(name, "conv1"),)
    assert stages.head == ("fc3" if name == "vectors" else "fc")
    assert stages.noise == ({"dropout": "fc"} if name == "sequences" else {})


@pytest.mark.parametrize("name", NETS)
def test_frozen_layers_of_a_net_on_any_kind_of_input_get_no_gradient(name):
    net, example, *_ = NETS[name]
    variables = initialise(net, 0, example)
    frozen = stages_of(net, example).layers["stage2"]
    rates = dict.fromkeys(frozen, 0.0)
    phase = Phase(0, 1, optax.sgd(0.1), lambda step: 0.1, rates, frozenset(frozen))
    apply = phase.apply_of(net)

    def loss(params):
        outputs, updated = apply(
            {**variables, "params": params},
            inputs(example),
            train=True,
            rngs={"dropout": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        return (outputs**2).sum(), updated.get("batch_stats", {})

    gradients, statistics = jax.grad(loss, has_aux=True)(variables["params"])
    for layer, tree in gradients.items():
        moves = any(np.any(leaf) for leaf in jax.tree.leaves(tree))
        assert moves == (layer not in frozen)
    jax.tree.map(np.testing.assert_array_equal, statistics, variables.get("batch_stats", {}))


@pytest.mark.parametrize("name", NETS)
def test_features_of_a_net_on_any_kind_of_input(name):
    net, example, *_ = NETS[name]
    variables, stored = initialise(net, 0, example), inputs(example, 5)
    head = stages_of(net, example).head
    widths = {"sequences": 16, "tokens": 4, "vectors": 7}

    def features(apply):
        return extract(apply, variables, stored, lambda batch: batch, batch_size=4)

    of_stage = features(outputs_of(net, "stage2"))
    assert of_stage.shape == (5, widths[name])
    np.testing.assert_allclose(features(inputs_of(net, head)), of_stage, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_a_net_on_any_kind_of_input_is_traced(name):
    net, example, *_, size = NETS[name]
    variables = initialise(net, 0, example)
    traced = TracedNet(net, variables, example)
    assert traced.stages == ["stage1_out", "stage2_out"]
    batch = inputs(example)
    outputs = traced(batch, ["stage2_out", LOGITS])
    np.testing.assert_allclose(outputs[LOGITS], net.apply(variables, batch, train=False), rtol=1e-5)
    assert ("stage2_out" in traced.fields) == (size is not None)
    if size is not None:
        [field] = traced.fields["stage2_out"]
        assert field.size == size


@pytest.mark.parametrize("name", NETS)
def test_a_net_on_any_kind_of_input_is_cut_off_above_a_stage(name):
    net, example, *_ = NETS[name]
    cut = truncated(net, "stage1", 3)
    variables = initialise(cut, 0, example)
    assert set(variables["params"]) == {*stages_of(net, example).layers["stage1"], "head"}
    assert cut.apply(variables, inputs(example), train=False).shape == (4, 3)


def test_a_net_without_train_keeps_the_names_of_its_variables():
    net = adapted(Tokens())
    shapes = shapes_of(net, TOKENS)["params"]
    assert set(shapes) == {"embed", "conv1", "position", "fc"}
    assert adapted(net) is net
    variables = Tokens().init(jax.random.key(0), inputs(TOKENS))
    np.testing.assert_array_equal(
        net.apply(variables, inputs(TOKENS), train=True), Tokens().apply(variables, inputs(TOKENS))
    )


class OfNNX(nnx.Module):
    """A net with a mode in place of an argument."""

    def __init__(self, width, *, rngs):
        self.conv = nnx.Conv(3, width, kernel_size=(3,), padding="VALID", rngs=rngs)
        self.bn = nnx.BatchNorm(width, rngs=rngs)
        self.fc = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc(nnx.relu(self.bn(self.conv(x))).mean(1))


def test_an_nnx_net_trains_and_infers():
    net, example = FromNNX(partial(OfNNX, 4)), (9, 3)
    variables = jax.tree.map(jnp.asarray, initialise(net, 0, example))
    assert set(variables["params"]) == {"conv", "bn", "fc"}
    assert summarise(net, example).macs == 7 * 3 * 3 * 4 + 40
    batch = inputs(example)
    inferred = net.apply(variables, batch, train=False)
    trained, updated = net.apply(variables, batch, train=True, mutable=["batch_stats"])
    assert np.abs(inferred - trained).max() > 1e-3
    assert np.any(updated["batch_stats"]["bn"]["mean"] != variables["batch_stats"]["bn"]["mean"])
