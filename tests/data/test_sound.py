"""Sound files become rows of samples, by one rule for each kind of trouble."""

import json
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from deeper.data import array_records
from deeper.data.prepare.sounds import from_folder, from_tfds
from deeper.data.prepare.spoken_digits import side_of, spoken_digits
from deeper.data.sound import SoundReader, is_prepared, sounds
from deeper.data.sound_files import UnreadableError, read_sound
from deeper.errors import UserError
from tests.data.sound_files import synthesiser, tone, tree, write_tfds

RATE = 8000


def test_samples_of_16_bits_at_the_rate_stay_as_they_are(tmp_path):
    samples = tone(440)
    wavfile.write(tmp_path / "a.wav", RATE, samples)
    read, done = read_sound(tmp_path / "a.wav", RATE)
    np.testing.assert_array_equal(read, samples)
    assert read.dtype == np.int16 and done == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_other_sample_formats_are_the_same_sound(tmp_path, dtype):
    samples = tone(440)
    share = samples / 32768.0
    values = {
        np.uint8: np.rint(share * 128 + 128).astype(np.uint8),
        np.int32: samples.astype(np.int32) << 16,
        np.float32: share.astype(np.float32),
    }[dtype]
    wavfile.write(tmp_path / "a.wav", RATE, values)
    read, _ = read_sound(tmp_path / "a.wav", RATE)
    assert np.abs(read.astype(int) - samples).max() <= (128 if dtype is np.uint8 else 0)


def test_24_bits_are_read(tmp_path):
    samples = tone(440)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, RATE, len(samples), "NONE", ""))
        file.writeframes(
            b"".join(int(s << 8).to_bytes(3, "little", signed=True) for s in samples.astype(int))
        )
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav", RATE)[0], samples)


def test_another_rate_is_resampled_to_the_same_tone_and_said(tmp_path):
    wavfile.write(tmp_path / "a.wav", 2 * RATE, tone(440, rate=2 * RATE))
    read, done = read_sound(tmp_path / "a.wav", RATE)
    assert len(done) == 1
    inner = slice(200, -200)
    assert np.abs(read[inner].astype(float) - tone(440)[inner]).max() < 100  # of 10,000


def test_channels_are_averaged_and_said(tmp_path):
    left, right = tone(440), tone(880)
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([left, right], axis=1))
    read, done = read_sound(tmp_path / "a.wav", RATE)
    expected = (left.astype(float) + right) / 2
    assert np.abs(read - expected).max() <= 0.5 and len(done) == 1


def test_a_flac_file_is_read_as_its_wav(tmp_path):
    soundfile = pytest.importorskip(
        "soundfile", reason="needs the extra sound, which .ci/run installs"
    )
    soundfile.write(tmp_path / "a.flac", tone(440), RATE)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.flac", RATE)[0], tone(440))


@pytest.mark.parametrize("trouble", ["silent", "empty", "cut", "text", "missing", "nan"])
def test_a_file_that_is_no_sound_is_named(tmp_path, trouble):
    path = tmp_path / "a.wav"
    samples = {"silent": 0 * tone(440), "empty": tone(440)[:0]}.get(trouble, tone(440))
    if trouble == "nan":
        samples = np.full(100, np.nan, np.float32)
    wavfile.write(path, RATE, samples)
    if trouble == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    if trouble == "text":
        path.write_text("no sound", encoding="utf-8")
    if trouble == "missing":
        path.unlink()
    with pytest.raises(UnreadableError, match=r"a\.wav"):
        read_sound(path, RATE)


def prepare(tmp_path, source, **more):
    given = {"rate": RATE, "fraction": 0.25, "on_bad": "raise"} | more
    return from_folder(str(tmp_path / "data"), "mine", str(source), **given)


def test_a_folder_a_class_becomes_a_data_set(tmp_path):
    source = tree(tmp_path / "files")
    wavfile.write(source / "high" / "stereo.wav", RATE, np.stack([tone(900)] * 2, axis=1))
    directory, said = prepare(tmp_path, source)
    assert is_prepared(directory) and len(said) == 1
    opened = sounds(str(tmp_path / "data"), "mine", RATE, 500, 1000)
    assert opened.class_names == ("high", "low")
    assert {name: len(part) for name, part in opened.splits.items()} == {"train": 13, "test": 4}
    train = opened.splits["train"]
    assert train.columns["sound"].shape == (13, 1000) and train.columns["sound"].dtype == np.int16
    assert not train.columns["sound"][:, 800:].any() and train.columns["sound"][:, :800].any()
    assert prepare(tmp_path, source) == (directory, [])


def test_files_that_cannot_be_used_are_counted_and_named(tmp_path):
    source = tree(tmp_path / "files")
    (source / "low" / "bad.wav").write_bytes(b"RIFF")
    wavfile.write(source / "low" / "silent.wav", RATE, np.zeros(100, np.int16))
    with pytest.raises(UserError, match=r"(?s)2 files.*bad\.wav.*silent\.wav|2 files.*silent"):
        prepare(tmp_path, source)
    assert not is_prepared(tmp_path / "data" / "mine")
    _, said = prepare(tmp_path, source, on_bad="skip")
    assert any("bad.wav" in line for line in said) and any("silent.wav" in line for line in said)


def test_a_sound_longer_than_what_is_kept_gives_its_middle(tmp_path):
    prepare(tmp_path, tree(tmp_path / "files"))
    whole = sounds(str(tmp_path / "data"), "mine", RATE, 800, 800).splits["test"].columns["sound"]
    part = sounds(str(tmp_path / "data"), "mine", RATE, 100, 200).splits["test"].columns["sound"]
    np.testing.assert_array_equal(part, whole[:, 300:500])


@pytest.mark.parametrize("length, kept, rate", [(500, 400, RATE), (500, 500, 16000)])
def test_a_data_set_is_not_opened_at_another_rate_or_too_short(tmp_path, length, kept, rate):
    prepare(tmp_path, tree(tmp_path / "files"))
    with pytest.raises(UserError):
        sounds(str(tmp_path / "data"), "mine", rate, length, kept)


def test_a_damaged_or_missing_data_set_is_said(tmp_path):
    with pytest.raises(UserError, match="mine"):
        sounds(str(tmp_path / "data"), "mine", RATE, 100, 100)
    directory, _ = prepare(tmp_path, tree(tmp_path / "files"))
    (directory / "train.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"train\.npz"):
        sounds(str(tmp_path / "data"), "mine", RATE, 100, 100)


def test_the_reader_reads_files_and_directories_and_counts(tmp_path):
    source = tree(tmp_path / "files")
    (source / "low" / "bad.wav").write_bytes(b"RIFF")
    read = SoundReader(RATE, 400)([source, source / "high" / "0.wav", "seven"])
    assert len(read.names) == 17 and read.columns["sound"].shape == (17, 400)
    assert len(read.left_out) == 2 and sum(read.changed.values()) == 17
    with pytest.raises(UserError):
        SoundReader(RATE, 400)(["seven"])


def test_a_set_of_tfds_becomes_a_data_set_without_tensorflow(tmp_path):
    given = [(tone(200)[:50], 1), (-tone(300)[:70], 0)]
    write_tfds(tmp_path / "tfds", given, ["down", "go"])
    more = {"tfds": "speech_commands", "rate": RATE, "original_rate": RATE}
    from_tfds(str(tmp_path), "words", source=str(tmp_path / "tfds"), **more)
    opened = sounds(str(tmp_path), "words", RATE, 100, 100)
    assert opened.class_names == ("down", "go")
    for split in opened.splits.values():
        assert sorted(split.columns["label"]) == [0, 1]
        for row, label in zip(split.columns["sound"], split.columns["label"], strict=True):
            samples = next(samples for samples, number in given if number == label)
            np.testing.assert_array_equal(row[: len(samples)], samples)
            assert not row[len(samples) :].any()
    with pytest.raises(UserError, match="speech_commands"):
        from_tfds(str(tmp_path), "others", source=str(tmp_path / "nothing"), **more)


def test_integers_of_any_size_are_read_from_a_record():
    values = [0, 1, -1, 127, 128, -32768, 32767, 2**40, -(2**63)]
    packed = b"".join(_varint(v) for v in values)

    def message(number, content):
        return bytes([number << 3 | 2]) + _varint(len(content)) + content

    feature = message(3, message(1, packed))
    record = message(1, message(1, message(1, b"audio") + message(2, feature)))
    assert array_records.integers(record, "audio").tolist() == values
    with pytest.raises(ValueError):
        array_records.integers(record, "label")
    with pytest.raises(ValueError):
        array_records.integers(record[:-1], "audio")


def _varint(value):
    value %= 1 << 64
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def test_spoken_digits_hold_out_whole_families_of_voices(tmp_path):
    command = synthesiser(tmp_path / "espeak")
    given = {"rate": RATE, "accents": ["en-us", "en-gb"], "takes": 1}
    directory, said = spoken_digits(str(tmp_path), "digits", command=str(command), **given)
    assert said and "dumb" in said[0]
    asked = [json.loads(line) for line in (tmp_path / "asked").read_text().splitlines()]
    opened = sounds(str(tmp_path), "digits", RATE, RATE, RATE)
    voices = {one[2].split("+", 1)[1] for one in asked if "-v" in one}
    sides = {voice: side_of(voice) for voice in voices}
    assert "Mr serious" in voices and sides["klatt"] == sides["klatt3"]
    heard = [voice for voice in voices if voice != "dumb"]
    for side, part in opened.splits.items():
        assert len(part) == 10 * sum(sides[v] == side for v in heard) > 0
        assert set(part.columns["label"]) == set(range(10))
    again, _ = spoken_digits(str(tmp_path / "b"), "digits", command=str(command), **given)
    same = sounds(str(tmp_path / "b"), "digits", RATE, RATE, RATE)
    assert same.fingerprint == opened.fingerprint and again != directory


def test_a_synthesiser_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="espeak-ng"):
        spoken_digits(str(tmp_path), "digits", RATE, "no-such-command", ["en-us"], 1)
