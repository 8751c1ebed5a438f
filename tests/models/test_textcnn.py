"""TextCNN and Char-CNN: the papers' counts, vectors of words, and answers free of padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.errors import UserError
from deeper.models.charcnn import SHORTEST, charcnn
from deeper.models.initializers import initialise
from deeper.models.textcnn import textcnn
from deeper.profile.macs import summarise


def text_of(length):
    return jax.ShapeDtypeStruct((length,), jnp.int32)


def texts_of(lengths, length, tokens):
    rng = np.random.default_rng(0)
    texts = np.zeros((len(lengths), length), np.int32)
    for row, size in zip(texts, lengths, strict=True):
        row[:size] = rng.integers(1, tokens, size)
    return texts


@pytest.mark.parametrize(
    ("channels", "tables"), [("trained", 1), ("static", 0), ("multichannel", 1)]
)
def test_textcnns_parameters_are_those_of_kims_layers(channels, tables):
    summary = summarise(textcnn(2, 1000, channels=channels), text_of(56))
    filters = 100 * (3 + 4 + 5) * 300 + 3 * 100
    assert summary.parameters == tables * 1000 * 300 + filters + 300 * 2 + 2


@pytest.mark.parametrize("channels", ["trained", "static", "multichannel"])
def test_a_textcnns_answer_is_that_of_its_definition_whatever_the_padding(channels):
    net = textcnn(3, 12, features=5, maps=4, channels=channels)
    variables = initialise(net, 0, text_of(20))
    lengths = [20, 9, 1, 0]
    texts = texts_of(lengths, 20, 12)
    found = np.asarray(net.apply(variables, texts, train=False))
    params = variables["params"]
    tables = [v["table"] for k, v in {**params, **variables.get("batch_stats", {})}.items()
              if k.startswith("embedding")]  # fmt: skip
    for row, size, logits in zip(texts, lengths, found, strict=True):
        pooled = []
        for width in (3, 4, 5):
            filters = params[f"conv{width}"]
            vectors = np.zeros((size + 2 * (width - 1), 5))
            vectors[width - 1 : width - 1 + size] = sum(table[row[:size]] for table in tables)
            answers = [
                np.einsum("lc,lck->k", vectors[i : i + width], filters["kernel"])
                for i in range(len(vectors) - width + 1)
            ]
            pooled.append(np.maximum(np.max(answers, axis=0) + filters["bias"], 0))
        expected = np.concatenate(pooled) @ params["fc"]["kernel"] + params["fc"]["bias"]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    longer = np.pad(texts, ((0, 0), (0, 7)))
    np.testing.assert_allclose(net.apply(variables, longer, train=False), found, atol=1e-6)
    rows = np.asarray(jax.nn.one_hot(texts, 12)) * (texts != 0)[..., None]
    np.testing.assert_allclose(net.apply(variables, rows, train=False), found, atol=1e-6)


def test_a_static_table_is_no_parameter():
    net = textcnn(3, 12, features=5, maps=4, channels="static")
    variables = initialise(net, 0, text_of(20))
    assert "embedding_static" not in variables["params"]
    assert variables["batch_stats"]["embedding_static"]["table"].shape == (12, 5)


@pytest.mark.parametrize(
    ("size", "channels", "hidden"), [("small", 256, 1024), ("large", 1024, 2048)]
)
def test_char_cnns_parameters_are_those_of_tables_1_and_2(size, channels, hidden):
    summary = summarise(charcnn(4, 72, size=size), text_of(1014))
    convolutions = 7 * (70 + channels) * channels + 4 * 3 * channels**2 + 6 * channels
    # "the length of the last layer's output is (l0 - 96) / 27": 34 of 1,014.
    dense = (34 * channels + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * 4
    assert summary.parameters == convolutions + dense


def test_char_cnn_reads_unknown_characters_as_nothing():
    net = charcnn(2, 6)
    variables = initialise(net, 0, text_of(SHORTEST))
    texts = texts_of([SHORTEST], SHORTEST, 6)
    unknown, padding = texts.copy(), texts.copy()
    unknown[:, 20:40], padding[:, 20:40] = 1, 0
    apply = jax.jit(lambda texts: net.apply(variables, texts, train=False))
    np.testing.assert_array_equal(apply(unknown), apply(padding))
    assert (apply(unknown) != apply(texts)).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: textcnn(2, 9, channels="none"),
        lambda: textcnn(2, 9, widths=(3, 3)),
        lambda: textcnn(2, 9, widths=()),
        lambda: charcnn(2, 9, size="tiny"),
        lambda: initialise(charcnn(2, 9), 0, text_of(SHORTEST - 1)),
    ],
)
def test_a_net_of_texts_that_there_is_not_is_refused(make):
    with pytest.raises(UserError):
        make()
