"""Reads sound files as 16-bit samples of one channel at one rate.

WAV is read by SciPy, which the package needs anyway; FLAC and Ogg by libsndfile through the package
soundfile, which only those who have such files have to install (the extra ``sound``).
"""

import warnings
from collections.abc import Sequence
from math import gcd
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16
from scipy.io import wavfile
from scipy.signal import resample_poly

SUFFIXES = (".wav", ".flac", ".ogg")
Values = Float[np.ndarray, "time *channels"]  # from -1 to 1
FULL_SCALE = 32768  # int16 samples of a sound whose values reach from -1 to 1
RESAMPLED, MIXED = "resampled to {rate:,} Hz", "of several channels, averaged"


class UnreadableError(Exception):
    """A file is no sound that can be used; the message names it and says why."""


def read_sound(path: Path, rate: int) -> tuple[Int16[np.ndarray, " samples"], tuple[str, ...]]:
    """Return a file's samples, and in words what was done to them.

    Several channels are averaged. Another sampling rate is converted by SciPy's polyphase filter.
    Samples that have 16 bits and the right rate stay as they are.

    Args:
        path: of the file.
        rate: samples per second of the result.

    Raises:
        UnreadableError: it cannot be read, is cut off, is empty, or is silent from end to end.
    """
    found, values = _values_of(path)
    done = []
    if values.ndim == 2:
        if values.shape[1] > 1:
            done.append(MIXED)
        values = values.mean(axis=1)
    if not len(values):
        raise UnreadableError(f"{path} has no samples.")
    if not np.isfinite(values).all():
        raise UnreadableError(f"{path} has samples that are no numbers.")
    if found != rate:
        done.append(RESAMPLED.format(rate=rate))
        common = gcd(found, rate)
        values = resample_poly(values, rate // common, found // common)
    scaled = np.clip(np.rint(values * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    samples = scaled.astype(np.int16)
    if (samples == samples[0]).all():
        raise UnreadableError(f"{path} is silent.")
    return samples, tuple(done)


def _values_of(path: Path) -> tuple[int, Values]:
    """Return the sampling rate, and values from -1 to 1."""
    try:
        if path.suffix.lower() == ".wav":
            return _wav(path)
        return _of_libsndfile(path)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be opened: {error.strerror or error}.") from error


def _wav(path: Path) -> tuple[int, Values]:
    with warnings.catch_warnings():
        # A file that ends early is an error; chunks with comments are none.
        warnings.simplefilter("error", wavfile.WavFileWarning)
        warnings.filterwarnings("ignore", "Chunk .* not understood", wavfile.WavFileWarning)
        try:
            rate, values = wavfile.read(path)
        except OSError:
            raise
        # SciPy raises errors of many types on damaged files, such as struct.error.
        except Exception as error:
            raise UnreadableError(f"{path} is no WAV file, or damaged: {error}.") from error
    if rate <= 0:
        raise UnreadableError(f"{path} is damaged: its sampling rate is {rate}.")
    if values.dtype == np.uint8:
        return rate, (values.astype(np.float64) - 128.0) / 128.0
    if np.issubdtype(values.dtype, np.integer):  # 24 bits stand in the upper ones of 32
        return rate, values.astype(np.float64) / 2.0 ** (8 * values.dtype.itemsize - 1)
    return rate, values.astype(np.float64)


def _of_libsndfile(path: Path) -> tuple[int, Values]:
    try:
        import soundfile
    except ImportError as error:
        raise UnreadableError(
            f"{path} needs the package soundfile: pip install soundfile, or convert it to WAV."
        ) from error
    try:
        values, rate = soundfile.read(path, dtype="float64")
    except (RuntimeError, ValueError) as error:  # soundfile.LibsndfileError is a RuntimeError
        raise UnreadableError(f"{path} cannot be read: {error}.") from error
    return rate, values


def middle_of(samples: np.ndarray, length: int) -> np.ndarray:
    """Return the middle of a sound, or all of a shorter one."""
    first = max(0, (len(samples) - length) // 2)
    return samples[first : first + length]


def padded(sounds: Sequence[np.ndarray], length: int) -> Int16[np.ndarray, "n length"]:
    """Return sounds with zeros behind their ends; of longer ones the middle."""
    rows = np.zeros((len(sounds), length), np.int16)
    for row, samples in zip(rows, sounds, strict=True):
        kept = middle_of(samples, length)
        row[: len(kept)] = kept
    return rows
