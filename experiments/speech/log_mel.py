"""librosa's log-mel spectrograms of made-up sounds, for the test of our own.

``python experiments/speech/log_mel.py`` in an environment with librosa writes log_mel.npz.
"""

from pathlib import Path

import numpy as np

RATE, WINDOW, HOP, MELS = 8000, 256, 128, 40


def main():
    """Write a sweep, noise and a click, and their spectrograms."""
    import librosa

    rng = np.random.default_rng(0)
    times = np.arange(RATE) / RATE
    sweep = np.sin(2 * np.pi * (100 + 1800 * times) * times)
    noise = rng.standard_normal(RATE)
    click = np.where(np.arange(RATE) == 3000, 1.0, 0.01 * noise)
    samples = np.stack([sweep, noise, click]).astype(np.float16).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS
    )
    decibels = np.stack([librosa.power_to_db(one) for one in power])
    np.savez_compressed(
        Path(__file__).with_name("log_mel.npz"),
        samples=samples.astype(np.float16), decibels=decibels.astype(np.float32), rate=RATE,
        window=WINDOW, hop=HOP, librosa=librosa.__version__,
    )  # fmt: skip
    print(librosa.__version__, decibels.shape)


if __name__ == "__main__":
    main()
