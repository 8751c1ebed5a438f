"""The mel scale of Slaney's Auditory Toolbox (1998), as librosa computes it by default.

Below 1,000 Hz it is linear, 200/3 Hz a mel; above, 27 mels are a factor of 6.4.
"""

import numpy as np
from jaxtyping import Float, Float32

HZ_A_MEL = 200.0 / 3.0
LINEAR_TO = 1000.0  # Hz
LOG_STEP = np.log(6.4) / 27.0


def hz_to_mel(hz: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return mels."""
    above = LINEAR_TO / HZ_A_MEL + np.log(np.maximum(hz, LINEAR_TO) / LINEAR_TO) / LOG_STEP
    return np.where(hz < LINEAR_TO, hz / HZ_A_MEL, above)


def mel_to_hz(mels: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return frequencies in Hz."""
    first = LINEAR_TO / HZ_A_MEL
    above = LINEAR_TO * np.exp(LOG_STEP * (np.maximum(mels, first) - first))
    return np.where(mels < first, mels * HZ_A_MEL, above)


def mel_filters(rate: int, window: int, mels: int) -> Float32[np.ndarray, "mels frequencies"]:
    """Return the weights of a spectrum's frequencies in each band: triangles of equal area.

    Args:
        rate: samples per second.
        window: samples of the Fourier transform.
        mels: bands from 0 Hz to half the rate, equally wide in mels and half overlapping.
    """
    frequencies = np.linspace(0.0, rate / 2.0, window // 2 + 1)
    top = hz_to_mel(np.array([rate / 2.0]))[0]
    corners = mel_to_hz(np.linspace(0.0, top, mels + 2))
    low, middle, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising = (frequencies[None] - low) / (middle - low)
    falling = (high - frequencies[None]) / (high - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)
