"""Operations on tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment.crops_and_colour import Flip
from deeper.augment.mixing import CutMix
from deeper.augment.words import WordDropout
from deeper.errors import UserError
from deeper.tasks.sequence import SequenceClassification
from deeper.train import losses

TEXTS = jnp.asarray(np.random.default_rng(0).integers(2, 9, (64, 50)) * (np.arange(50) < 40))


def keys_of(seed, count):
    return jax.vmap(lambda row: jax.random.fold_in(jax.random.key(seed), row))(jnp.arange(count))


def test_so_many_tokens_become_unknown_and_padding_stays():
    found = np.asarray(WordDropout(0.25)(keys_of(0, 64), TEXTS))
    changed = found != np.asarray(TEXTS)
    assert set(found[changed]) == {1} and not changed[:, 40:].any()
    assert abs(changed[:, :40].mean() - 0.25) < 0.03
    np.testing.assert_array_equal(WordDropout(0.0)(keys_of(0, 64), TEXTS), TEXTS)


def test_an_example_draws_from_its_own_key():
    keys = keys_of(0, 64)
    together = WordDropout(0.5)(keys, TEXTS)
    np.testing.assert_array_equal(WordDropout(0.5)(keys[7:9], TEXTS[7:9]), together[7:9])


def test_word_dropout_of_what_is_no_text_is_refused():
    with pytest.raises(UserError):
        WordDropout(1.0)
    for values in (jnp.zeros((2, 8, 8, 3), jnp.uint8), jnp.zeros((2, 9))):
        with pytest.raises(UserError, match="augment"):
            WordDropout(0.1)(keys_of(0, 2), values)


@pytest.mark.parametrize("operation", [Flip(), CutMix(1.0, 1.0, False, 2)])
@pytest.mark.parametrize("sequences", [TEXTS, jnp.zeros((64, 50, 4)), jnp.zeros((64, 50, 1))])
def test_an_operation_on_images_is_refused_on_sequences(operation, sequences):
    loss = losses.loss_of("cross_entropy", 0, None)
    task = SequenceClassification("text", (operation,), lambda x: x, loss)
    batch = {"text": sequences, "label": jnp.zeros(64, jnp.int32)}
    with pytest.raises(UserError, match="augment"):
        task.inputs(lambda purpose: jax.random.key(purpose), jnp.arange(64), batch, train=True)
