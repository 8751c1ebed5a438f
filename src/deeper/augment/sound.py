"""Sounds on the device: from stored samples to what a net takes, and random changes of both.

`Waveform` and `LogMel` are the ``features`` of a task: int16 (batch, kept) -> float32. The
operations satisfy `pipeline.Operation`: on stored samples, or, those with ``on_features``, on
spectrograms.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from deeper.augment.mel import mel_filters
from deeper.errors import UserError

Samples = Num[Array, "batch samples"]  # int16, zero behind the end
Keys = Key[Array, " batch"]
FULL_SCALE = 32768.0
RANGE = (
    80.0  # decibels below the loudest place of a spectrogram, and nothing less: librosa's top_db
)
QUIETEST = 1e-10  # power that a logarithm is taken of, at least: librosa's amin


def ends_of(samples: Samples) -> Int[Array, " batch"]:
    """Return the number of samples up to the last that is not zero, at least 1."""
    places = jnp.arange(1, samples.shape[1] + 1)[None]
    return jnp.maximum(1, jnp.where(samples != 0, places, 0).max(axis=1))


def _parts(samples: Samples, first: Int[Array, " batch"], length: int) -> Samples:
    return jax.vmap(lambda row, at: jax.lax.dynamic_slice(row, (at,), (length,)))(samples, first)


def _loudness(samples: Samples) -> Float[Array, "batch 1"]:
    """Return the root of the mean square up to each sound's end."""
    values = samples.astype(jnp.float32)
    return jnp.sqrt((values * values).sum(axis=1) / ends_of(samples))[:, None]


@dataclass(frozen=True)
class Waveform:
    """The middle of each sound, made equally loud: its root mean square is 1.

    Attributes:
        length: samples.
    """

    length: int

    def __call__(self, samples: Samples) -> Float[Array, "batch length 1"]:
        """Return samples as the net takes them."""
        if samples.shape[1] > self.length:
            first = jnp.maximum(0, ends_of(samples) - self.length) // 2
            samples = _parts(samples, first, self.length)
        loudness = jnp.maximum(_loudness(samples), 1.0)
        return (samples.astype(jnp.float32) / loudness)[..., None]


@dataclass(frozen=True)
class LogMel:
    """A picture of a sound: the logarithm of its power by time and by mel band.

    Rows are bands, the highest above, as spectrograms are drawn; columns are times. The loudest
    place is 1, and what is `RANGE` decibels below it or quieter is 0.

    Attributes:
        length: samples, the middle of each sound.
        rate: samples per second.
        window: samples of a Hann window.
        hop: samples from one to the next.
        mels: bands, from 0 Hz to half the rate.
    """

    length: int
    rate: int
    window: int
    hop: int
    mels: int

    def __call__(self, samples: Samples) -> Float[Array, "batch mels times 1"]:
        """Return spectrograms."""
        values = Waveform(self.length)(samples)[..., 0]
        power = mel_power(values, self.rate, self.window, self.hop, self.mels)
        decibels = to_decibels(power)
        top = decibels.max(axis=(1, 2), keepdims=True)
        return ((decibels - top) / RANGE + 1.0)[:, ::-1, :, None]


def mel_power(
    values: Float[Array, "batch samples"], rate: int, window: int, hop: int, mels: int
) -> Float[Array, "batch mels times"]:
    """Return the power in each mel band, as ``librosa.feature.melspectrogram`` defines it.

    Frames are centred on multiples of ``hop``, with zeros around the sound; Slaney's mel scale and
    bands of equal area.
    """
    padded = jnp.pad(values, ((0, 0), (window // 2, window // 2)))
    times = 1 + values.shape[1] // hop
    places = hop * np.arange(times)[:, None] + np.arange(window)[None]
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    spectrum = jnp.fft.rfft(padded[:, places] * hann.astype(np.float32)[None, None])
    power = spectrum.real**2 + spectrum.imag**2
    return jnp.einsum("btf,mf->bmt", power, mel_filters(rate, window, mels))


def to_decibels(power: Float[Array, "batch mels times"]) -> Float[Array, "batch mels times"]:
    """Return decibels, at least `RANGE` below the largest: ``librosa.power_to_db``."""
    decibels = 10.0 * jnp.log10(jnp.maximum(QUIETEST, power))
    return jnp.maximum(decibels, decibels.max(axis=(1, 2), keepdims=True) - RANGE)


@dataclass(frozen=True)
class RandomPart:
    """A random part of each sound; of a shorter one its beginning, all of it.

    Attributes:
        length: samples of the part.
    """

    length: int

    def __call__(self, keys: Keys, samples: Samples) -> Samples:
        beyond = jnp.maximum(0, ends_of(samples) - self.length)
        first = jax.vmap(lambda key, most: jax.random.randint(key, (), 0, most + 1))(keys, beyond)
        return _parts(samples, first, self.length)


@dataclass(frozen=True)
class TimeShift:
    """Each sound earlier or later, with zeros where there is nothing (Warden 2018, section 7).

    Attributes:
        most: samples.
    """

    most: int

    def __post_init__(self):
        """Check the value."""
        if not self.most >= 0:
            raise UserError(f"TimeShift's most={self.most}: give 0 or more samples.")

    def __call__(self, keys: Keys, samples: Samples) -> Samples:
        padded = jnp.pad(samples, ((0, 0), (self.most, self.most)))
        draw = jax.vmap(lambda key: jax.random.randint(key, (), 0, 2 * self.most + 1))
        return _parts(padded, draw(keys), samples.shape[1])


@dataclass(frozen=True)
class Noise:
    """White noise, up to the end of each sound.

    Attributes:
        least: lowest ratio of the sound's power to the noise's, in decibels.
        most: highest ratio.
    """

    least: float
    most: float

    def __post_init__(self):
        """Check the values."""
        if not self.least <= self.most:
            raise UserError(f"Noise's least={self.least} is above most={self.most}.")

    def __call__(self, keys: Keys, samples: Samples) -> Samples:
        values = samples.astype(jnp.float32)

        def draw(key):
            ratio, grain = jax.random.split(key)
            decibels = jax.random.uniform(ratio, (), minval=self.least, maxval=self.most)
            return 10.0 ** (-decibels / 20.0) * jax.random.normal(grain, samples.shape[1:])

        noisy = values + _loudness(samples) * jax.vmap(draw)(keys)
        there = jnp.arange(samples.shape[1])[None] < ends_of(samples)[:, None]
        limited = jnp.clip(jnp.round(noisy), -FULL_SCALE, FULL_SCALE - 1)
        return jnp.where(there, limited, 0).astype(samples.dtype)


@dataclass(frozen=True)
class SpecAugment:
    """Bands and times of a spectrogram without sound (Park et al. 2019, arXiv:1904.08779).

    Section 2, without its time warping. A mask's width is drawn from 0 to the largest, then its
    place.

    Attributes:
        bands: masks over mel bands.
        band_width: rows of one, at most.
        times: masks over times.
        time_width: columns of one, at most.
    """

    on_features: ClassVar[bool] = True
    bands: int
    band_width: int
    times: int
    time_width: int

    def __call__(self, keys: Keys, spectrograms: Any) -> Any:
        if spectrograms.ndim != 4:
            raise UserError(
                f"SpecAugment is for spectrograms; these inputs are of shape {spectrograms.shape}. "
                "Say arm=log_mel, or another augment=NAME."
            )
        rows, columns = spectrograms.shape[1:3]

        def kept(key):
            by_row, by_column = jax.random.split(key)
            row = _unmasked(by_row, self.bands, self.band_width, rows)
            return row[:, None] & _unmasked(by_column, self.times, self.time_width, columns)[None]

        return jnp.where(jax.vmap(kept)(keys)[..., None], spectrograms, 0.0)


def _unmasked(key: Any, count: int, most: int, size: int) -> Any:
    """Return which of ``size`` places no mask covers."""
    widths_key, places_key = jax.random.split(key)
    widths = jax.random.randint(widths_key, (count,), 0, min(most, size) + 1)
    first = jax.random.randint(places_key, (count,), 0, size - widths + 1)
    places = jnp.arange(size)[None]
    covered = (places >= first[:, None]) & (places < (first + widths)[:, None])
    return ~covered.any(axis=0)
