"""Spoken digits: the words zero to nine, said by the speech synthesiser espeak-ng.

Its voices, such as f2 or grandpa, speak in several accents, at any rate and pitch. Whole voices are
held out for test, with all whose names differ in their last number alone (klatt, klatt2 ...), which
are made alike. Everything that is drawn is a function of the voice, the digit and the take.
"""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from deeper.data.prepare.atomic_directory import Progress
from deeper.data.sound import is_prepared, store
from deeper.data.sound_files import UnreadableError, read_sound
from deeper.errors import UserError
from deeper.platform_support import core_count

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RATES = (120, 220)  # words per minute; the synthesiser's own is 175
PITCHES = (20, 80)  # of 0 to 99; the synthesiser's own is 50
TEST_SHARE = 5  # one in so many families of voices is tested on
QUIET = 0.001  # samples below this share of the largest are no part of a word at its ends


def spoken_digits(
    dir: str,
    name: str,
    rate: int,
    command: str,
    accents: Sequence[str],
    takes: int,
    progress: Progress = lambda what, done, total: None,
) -> tuple[Path, list[str]]:
    """Prepare the data set, unless it is prepared; the same synthesiser says the same.

    Args:
        dir: where prepared data sets are.
        name: of the data set.
        rate: samples per second.
        command: the synthesiser.
        accents: espeak-ng's voices of English, of which a draw takes one.
        takes: of each digit by each voice, at drawn rates and pitches.
        progress: called with the number of words said.

    Returns:
        Its directory, and a sentence on voices that were left out.

    Raises:
        UserError: there is no such command, or it fails.
    """
    directory = Path(dir) / name
    if is_prepared(directory):
        return directory, []
    if shutil.which(command) is None:
        raise UserError(
            f"data.prepare.command={command} is not on this machine: install the package espeak-ng."
        )
    asked = [
        (voice, digit, take)
        for voice in voices_of(command)
        for take in range(takes)
        for digit in range(len(WORDS))
    ]
    splits: dict[str, list[tuple[Int16[np.ndarray, " samples"], int]]] = {"train": [], "test": []}
    silent: set[str] = set()
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(core_count()) as pool:

        def say(number: int) -> Int16[np.ndarray, " samples"] | None:
            voice, digit, take = asked[number]
            out = Path(scratch) / f"{number}.wav"
            return _said(command, accents, voice, digit, take, out, rate)

        for number, samples in enumerate(pool.map(say, range(len(asked)))):
            voice, digit, _ = asked[number]
            progress("say words", number + 1, len(asked))
            if samples is None:
                silent.add(voice)
            else:
                splits[side_of(voice)].append((samples, digit))
    # By a hash, so that any beginning of a split is a sample of all voices and digits.
    ordered = {
        side: [
            some[i]
            for i in np.random.Generator(np.random.Philox(key=[0, len(some)])).permutation(
                len(some)
            )
        ]
        for side, some in splits.items()
    }
    store(directory, ordered, WORDS, rate, progress)
    sentences = (
        [f"Voices that say nothing at times: {', '.join(sorted(silent))}."] if silent else []
    )
    return directory, sentences


def voices_of(command: str) -> list[str]:
    """Return the names of the synthesiser's voice variants, sorted."""
    listed = subprocess.run(
        [command, "--voices=variant"], capture_output=True, text=True, check=False
    )
    voices = sorted(set(re.findall(r"!v/(\S+(?: \S+)*)", listed.stdout)))
    if not voices:
        raise UserError(f"{command} --voices=variant lists no voices: {listed.stderr.strip()}")
    return voices


def side_of(voice: str) -> str:
    """Return the split of a voice, which is that of its family."""
    family = re.sub(r"\d+$", "", voice.lower())
    return "test" if _draw(family, TEST_SHARE) == 0 else "train"


def _draw(text: str, count: int) -> int:
    """Return a number below ``count`` that is a function of the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % count


def _said(
    command: str, accents: Sequence[str], voice: str, digit: int, take: int, out: Path, rate: int
) -> Int16[np.ndarray, " samples"] | None:
    """Return a word without the silence around it; None if the voice says nothing."""
    drawn = f"{voice} {digit} {take}"
    accent = accents[_draw(f"accent {drawn}", len(accents))]
    speed = RATES[0] + _draw(f"rate {drawn}", RATES[1] - RATES[0] + 1)
    pitch = PITCHES[0] + _draw(f"pitch {drawn}", PITCHES[1] - PITCHES[0] + 1)
    line = [command, "-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch), "-w", str(out)]
    ended = subprocess.run([*line, WORDS[digit]], capture_output=True, text=True, check=False)
    if ended.returncode or not out.exists():
        raise UserError(f"{' '.join(line)} failed: {ended.stderr.strip()}")
    try:
        samples, _ = read_sound(out, rate)
    except UnreadableError:
        return None
    finally:
        out.unlink()
    size = np.abs(samples.astype(np.int32))
    heard = np.flatnonzero(size > QUIET * size.max())
    return samples[heard[0] : heard[-1] + 1]
