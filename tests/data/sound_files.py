"""Made-up sounds: tones, a tree of them, a TFDS directory, and a speech synthesiser."""

import contextlib
import io
import sys
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 8000


def tone(hertz: float, seconds: float = 0.1, rate: int = RATE) -> np.ndarray:
    """Return a sine, int16."""
    times = np.arange(round(seconds * rate)) / rate
    return np.rint(10_000 * np.sin(2 * np.pi * hertz * times + 0.5)).astype(np.int16)


def tree(directory: Path, count: int = 8) -> Path:
    """Write tones into low/ and high/; return the directory."""
    for name, first in (("low", 200), ("high", 900)):
        (directory / name).mkdir(parents=True)
        for i in range(count):
            wavfile.write(directory / name / f"{i}.wav", RATE, tone(first + 20 * i))
    return directory


def write_tfds(directory: Path, sounds: list, names: list[str]) -> None:
    """Write a TFDS data_dir with (samples, label) in train and test, as speech_commands is."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("0.0.3")

        def _info(self):
            features = {
                # As its Audio is stored, which needs TensorFlow to write.
                "audio": tfds.features.Tensor(shape=(None,), dtype=np.int64),
                "label": tfds.features.ClassLabel(names=names),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for number, (samples, label) in enumerate(sounds):
                yield number, {"audio": samples.astype(np.int64), "label": label}

    Builder.name = "speech_commands"
    builder = Builder(data_dir=directory, file_format="array_record")
    with contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )


SYNTHESISER = """#!{python}
import json, sys, wave
with open({asked!r}, "a") as file:
    file.write(json.dumps(sys.argv) + chr(10))
if "--voices=variant" in sys.argv:
    print("Pty Language       Age/Gender VoiceName          File                 Other Languages")
    for name in {voices!r}:
        print(f" 5  variant         --/M      X_{{name[:3]}}    !v/{{name}}      (en-us 5)")
    raise SystemExit
samples = [] if "+dumb" in sys.argv[2] else [(-999) ** (1 + i % 2) % 9999 for i in range(99)]
with wave.open(sys.argv[sys.argv.index("-w") + 1], "wb") as file:
    file.setparams((1, 2, 22050, 0, "NONE", ""))
    sound = [0] * 500 + samples + [0] * 500
    file.writeframes(b"".join(s.to_bytes(2, "little", signed=True) for s in sound))
"""
VOICES = ["klatt", "klatt3", "Mr serious", "grandpa", "dumb", "f1", "f2", "Alex", "zac", "Storm"]


def synthesiser(path: Path) -> Path:
    """Write a program that is called as espeak-ng is, and notes its calls in a file beside it."""
    asked = str(path.parent / "asked")
    source = SYNTHESISER.format(python=sys.executable, asked=asked, voices=VOICES)
    path.write_text(source, encoding="utf-8")
    path.chmod(0o755)
    return path
