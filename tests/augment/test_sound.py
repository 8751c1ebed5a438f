"""Spectrograms equal librosa's; an augmented sound depends on its own key alone."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deeper.augment import sound
from deeper.augment.pipeline import augment
from deeper.errors import UserError
from deeper.tasks import sequence
from deeper.train import losses

GOLDEN = Path(__file__).parents[2] / "experiments" / "speech" / "log_mel.npz"
KEYS = jax.vmap(jax.random.key)(jnp.arange(64))
ENDS = np.array([300, 700, 1000])


def sounds(count=3, length=1000):
    values = np.random.default_rng(0).integers(-9000, 9000, (count, length)).astype(np.int16)
    for row, end in zip(values, np.resize(ENDS, count), strict=True):
        row[end - 1 : end], row[end:] = 500, 0
    return jnp.asarray(values)


def test_mel_spectrograms_equal_librosas_within_a_hundredth_of_a_decibel():
    with np.load(GOLDEN) as golden:
        samples = golden["samples"].astype(np.float32)
        window, hop = int(golden["window"]), int(golden["hop"])
        expected, rate = golden["decibels"], int(golden["rate"])
    power = sound.mel_power(jnp.asarray(samples), rate, window, hop, expected.shape[1])
    assert np.abs(np.asarray(sound.to_decibels(power)) - expected).max() < 0.01


def test_a_waveform_is_equally_loud_and_its_padding_stays_zero():
    values = np.asarray(sound.Waveform(1000)(sounds()))
    assert values.shape == (3, 1000, 1)
    for row, quieter, end in zip(values, sound.Waveform(1000)(sounds() // 10), ENDS, strict=True):
        assert (row[:end] ** 2).mean() == pytest.approx(1, rel=1e-5)
        np.testing.assert_allclose(row, quieter, atol=2e-3)
        assert not row[end:].any()
    assert not np.asarray(sound.Waveform(1000)(jnp.zeros((1, 1000), jnp.int16))).any()


def test_evaluation_takes_the_middle_of_a_long_sound_and_all_of_a_short_one():
    given = sounds()
    taken = np.asarray(sound.Waveform(400)(given))[..., 0]
    for row, whole, first in zip(taken, np.asarray(given), (0, 150, 300), strict=True):
        part = whole[first : first + 400].astype(np.float64)
        np.testing.assert_allclose(np.corrcoef(row, part)[0, 1], 1, rtol=1e-6)


def test_a_log_mel_picture_is_the_same_at_any_loudness_and_has_low_bands_below():
    to_picture = sound.LogMel(length=8000, rate=8000, window=256, hop=128, mels=40)
    times = np.arange(8000) / 8000
    low = np.rint(8000 * np.sin(2 * np.pi * 150 * times)).astype(np.int16)[None]
    picture = np.asarray(to_picture(jnp.asarray(low)))
    assert picture.shape == (1, 40, 63, 1)
    assert picture.min() >= 0 and picture.max() == pytest.approx(1)
    assert picture[0, :, 30, 0].argmax() > 35
    np.testing.assert_allclose(picture, to_picture(jnp.asarray(low // 2)), atol=0.05)


def test_a_random_part_lies_within_the_sound():
    given = sounds(60)
    parts = np.asarray(sound.RandomPart(400)(KEYS[:60], given))
    begins = set()
    for row, whole, end in zip(parts, np.asarray(given), np.resize(ENDS, 60), strict=True):
        first = next(i for i in range(601) if (whole[i : i + 400] == row).all())
        assert first <= max(0, end - 400)
        begins.add(first)
    assert len(begins) > 30


def test_a_shifted_sound_is_the_same_with_zeros_in_its_place():
    given = np.asarray(sounds(60))
    moved = np.asarray(sound.TimeShift(50)(KEYS[:60], jnp.asarray(given)))
    shifts = set()
    for row, whole in zip(moved, given, strict=True):
        padded = np.pad(whole, 50)
        shift = next(s for s in range(-50, 51) if (padded[50 + s : 1050 + s] == row).all())
        shifts.add(shift)
    assert min(shifts) < -30 and max(shifts) > 30


def test_noise_has_the_ratio_that_is_asked_for_and_leaves_padding_alone():
    given = sounds()
    noisy = sound.Noise(20, 20)(KEYS[:3], given)
    assert noisy.dtype == jnp.int16
    for row, whole, end in zip(
        np.asarray(noisy, float), np.asarray(given, float), ENDS, strict=True
    ):
        ratio = 10 * np.log10((whole[:end] ** 2).mean() / ((row - whole)[:end] ** 2).mean())
        assert ratio == pytest.approx(20, abs=1)
        assert not row[end:].any()


def test_specaugment_masks_bands_and_times_no_wider_than_asked():
    pictures = jnp.ones((64, 40, 63, 1))
    masked = np.asarray(sound.SpecAugment(1, 6, 1, 8)(KEYS, pictures))[..., 0]
    bands = (masked == 0).all(axis=2).sum(axis=1)
    times = (masked == 0).all(axis=1).sum(axis=1)
    assert bands.max() == 6 and times.max() == 8 and bands.min() == times.min() == 0
    for picture, some, others in zip(masked, bands, times, strict=True):
        assert (picture == 0).sum() == some * 63 + others * 40 - some * others


def test_specaugment_of_samples_is_refused():
    with pytest.raises(UserError, match="log_mel"):
        sound.SpecAugment(1, 6, 1, 8)(KEYS[:3], jnp.ones((3, 100, 1)))


@pytest.mark.parametrize(
    "operation", [sound.RandomPart(400), sound.TimeShift(50), sound.Noise(5, 20)]
)
def test_an_augmented_sound_does_not_depend_on_the_others(operation):
    given, labels, key = sounds(), jnp.arange(3), jax.random.key(7)
    rows = jnp.array([4, 5, 6])
    together, _ = augment([operation], key, rows, given, labels)
    alone, _ = augment([operation], key, rows[1:2], given[1:2], labels[1:2])
    np.testing.assert_array_equal(together[1:2], alone)
    assert (together[1] != given[1][: together.shape[1]]).any()


@pytest.mark.parametrize("wrong", [lambda: sound.TimeShift(-1), lambda: sound.Noise(9, 3)])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError):
        wrong()


def test_specaugment_masks_what_the_net_takes_in_training_alone():
    to_picture = sound.LogMel(length=1000, rate=8000, window=256, hop=128, mels=40)
    mask = sound.SpecAugment(2, 20, 0, 1)
    task = sequence.SequenceClassification(
        "sound", (sound.TimeShift(0), mask), to_picture, losses.loss_of("cross_entropy", 0.0, None)
    )
    batch = {"sound": sounds(), "label": jnp.arange(3)}
    trained, evaluated = (
        task.inputs(lambda purpose: jax.random.key(purpose), jnp.arange(3), batch, train)[0]
        for train in (True, False)
    )
    np.testing.assert_array_equal(evaluated, to_picture(batch["sound"]))
    masked = np.asarray(trained != evaluated)
    assert masked.any() and not np.asarray(trained)[masked].any()
