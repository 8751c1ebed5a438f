"""Write mutations.json: outcomes of 10,000 configs, 10,000 pictures and 1,000 trees with mistakes.

Each is derived by a seed from a valid one, and processed by the command's code in this process.
Success, and one sentence with exit status 2, are correct outcomes. Anything else is a fault and is
listed: a traceback, another status, a file left out without a message, more than 10 seconds of
processor time or 2 GiB.

    python experiments/reliability/mutations.py                # all, half an hour of a core
    python experiments/reliability/mutations.py --configs 100 --pictures 0 --directories 0
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

from deeper.cli import main as command
from deeper.config.compose import composed, plain_values
from deeper.data import jpeg
from deeper.data.encoded_images import View, show_into
from deeper.data.image_files import SUFFIXES
from deeper.errors import UserError

SECONDS, BYTES = 10.0, 2 << 30  # limits: processor time of one case; total memory
A_BATCH = 500  # pictures per `deeper predict`
HERE = Path(__file__).parent


class TooLongError(Exception):
    """A command took longer than its time limit."""


class Count:
    """Counts of the outcomes of one kind of case."""

    def __init__(self, kind: str):
        self.kind, self.seen, self.faults, self.longest = kind, Counter[str](), [], 0.0

    def add(self, case: Any, outcome: str, seconds: float, why: str = "") -> None:
        """Count a case; outcomes that start with "fault" are listed."""
        self.longest = max(self.longest, seconds)
        if not outcome.startswith("fault") and seconds > SECONDS:
            outcome, why = "fault: slow", f"{seconds:.1f} s"
        self.seen[outcome] += 1
        if outcome.startswith("fault"):
            self.faults.append({"case": case, "outcome": outcome, "why": why[-1500:]})

    def plain(self) -> dict[str, Any]:
        """Return the counts as stored."""
        counts = dict(sorted(self.seen.items()))
        return {**counts, "longest_seconds": round(self.longest, 1), "faults": self.faults[:50]}


def run(*words: str, most: float = 12 * SECONDS) -> tuple[int, str, float]:
    """Run a command with a time limit in seconds; return its exit status, output and duration."""
    GlobalHydra.instance().clear()
    sys.argv = ["deeper", *words]
    said = io.StringIO()
    begin = time.process_time()
    signal.alarm(int(most))
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = command.main()
    except BaseException as error:  # every exception is a fault
        status = -1
        said.write(f"Traceback: {type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
    return int(status), said.getvalue(), time.process_time() - begin


def outcome_of(status: int, said: str) -> str:
    """Return the outcome of a command: success, sentence, or a fault."""
    if "Traceback" in said:
        return "fault: traceback"
    if status == 0:
        return "success"
    if status == 2 and "deeper: " in said:
        return "sentence"
    return f"fault: exit status {status}"


# --- configs ------------------------------------------------------------------------------------

ODD = (
    "nan", "inf", "-inf", "-1", "0", "1", "0.5", "1.5", "1e3", "1e400", "-0.0", "1000000000000",
    "18446744073709551616", "abc", "null", "true", "false", "", "[]", "[1]", "[1,2]", "[a,null]",
    "{}", "{a:1}", "{_target_:math.sqrt}", "'${oc.env:NOT_THERE}'", "'${seed}'", "'${nothing}'",
    "???", "ümlaut", "日本", "'a b'", "'a=b'", "'[/b]'", "'[v2]'", "[", "(", "}", "~", "$x", "\\",
    "'\\n'", "a" * 3000, "[[1],[2]]", "[nan]", "[-1,-1,-1]", "deeper", "deeper.errors", "math.sqrt",
    "../x", "/", ".", "/dev/null", "%j", "*", "?",
)  # fmt: skip
VERBS = {
    "train": 0.30, "inspect": 0.05, "conv": 0.13, "evaluate": 0.10, "predict": 0.10, "see": 0.09,
    "features": 0.09, "weights": 0.04, "prepare": 0.04, "doctor": 0.02, "sync": 0.02,
    "report": 0.01, "sweep": 0.01,
}  # fmt: skip
GIVEN = {  # valid arguments of each command, to be changed
    "train": ["model=lenet5"],
    "inspect": ["model=lenet5"],
    "conv": ["input=8x8x3", "channels=4", "kernel=3"],
    "evaluate": ["run=run"],
    "predict": ["images=pictures", "weights=run"],
    "see": ["run=run"],
    "features": ["run=run"],
    "weights": ["run=run", "out=net.safetensors"],
    "prepare": ["data=folder", "data.name=pets", "data.source=nowhere"],
    "doctor": [],
    "sync": ["runs=empty"],
    "report": ["study=depth_fashion", "runs=empty"],
    "sweep": ["action=status", "runs=empty"],
}
CHOICES = {
    "model": ("lenet5", "alexnet", "resnet", "vgg", "plain", "googlenet", "zfnet"),
    "data": ("fashion_mnist", "cifar10", "imagenet", "folder", "tfds", "photos", "digits"),
    "augment": ("none", "flip", "crop_flip", "autoaugment", "randaugment"),
    "optimizer": ("sgd", "adam", "adamw", "lamb"),
    "schedule": ("cosine", "step", "constant"),
    "train": ("supervised", "uda"),
    "transfer": ("none", "linear", "staged", "finetune"),
    "recipe": ("none", "he2015", "krizhevsky2012"),
    "study": ("none", "depth_fashion", "augment_fashion"),
    "arm": ("none", "scratch"),
}


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a config, including sections, with their values."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


def keys_of(verb: str) -> list[tuple[str, Any]]:
    """Return a command's keys with their values, without keys that start real work."""
    name = {"conv": "convolution"}.get(verb, verb)
    words = ["model=lenet5"] if verb in ("train", "inspect") else []
    config = composed(name, words)
    try:
        plain = plain_values(config)
    except Exception:  # some values are missing
        from omegaconf import OmegaConf

        plain = OmegaConf.to_container(config, resolve=False)
        plain.pop("hydra", None)
    away = ("mode", "hydra", "launch", "jobs", "code", "wandb", "tracker")
    return [pair for pair in leaves(plain) if pair[0].split(".")[0] not in away]


def changed(rng: random.Random, key: str, value: Any) -> str:
    """Return an override that sets a key to a value close to its own, or to any value."""
    how = rng.random()
    if how < 0.3 and isinstance(value, int | float) and not isinstance(value, bool):
        new = str(
            rng.choice([-value, value * 1000, value + 0.5, value / 7, -value - 1, f"'{value}'"])
        )
    elif how < 0.3 and isinstance(value, list):
        kept = [item for item in value if rng.random() < 0.6]
        new = f"[{','.join(map(str, [*kept, rng.choice(ODD)]))}]"
    else:
        new = rng.choice(ODD)
    if rng.random() < 0.15:  # a key with a typing error
        place = rng.randrange(len(key) + 1)
        key = rng.choice(
            [key[:place] + key[place + 1 :], key[:place] + rng.choice("xä.[ ") + key[place:],
             key.upper(), f"+{key}", f"~{key}", f"++{key}", f"{key}.{key}"]
        )  # fmt: skip
    return key if rng.random() < 0.02 else f"{key}={new}"


def a_config(number: int, keys: dict[str, list[tuple[str, Any]]]) -> list[str]:
    """Return a command with up to four mistakes, as a function of the number."""
    rng = random.Random(number)
    verb = rng.choices(list(VERBS), list(VERBS.values()))[0]
    words = list(GIVEN[verb])
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if verb in ("train", "inspect") and rng.random() < 0.25:
            group = rng.choice(list(CHOICES))
            value = rng.choice(CHOICES[group]) if rng.random() < 0.7 else rng.choice(ODD)
            words.append(f"{group}={value}")
        elif words and rng.random() < 0.05:
            words[rng.randrange(len(words))] += rng.choice(("x", "]", "=", ",1", " "))
        else:
            words.append(changed(rng, *rng.choice(keys[verb])))
    if verb == "train":
        words.append("mode=dry")
    if verb == "conv":
        return ["inspect", "conv", *words]
    return [verb, *words]


def configs(numbers: range, count: Count) -> None:
    """Run commands with mistakes."""
    keys = {verb: keys_of(verb) for verb in VERBS}
    for number in numbers:
        words = a_config(number, keys)
        status, said, seconds = run(*words)
        count.add([number, words], outcome_of(status, said), seconds, said)


# --- pictures -----------------------------------------------------------------------------------


def picture_kinds() -> list[tuple[str, bytes]]:
    """Return (suffix, content) of a valid file of each kind."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 4)).astype(np.uint8)
    colours = Image.fromarray(coarse, "RGBA").resize((80, 60), Image.Resampling.BICUBIC)
    deep = Image.fromarray(rng.integers(0, 65536, (60, 80)).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    found = []

    def add(suffix: str, form: str, picture: Image.Image, **options: Any) -> None:
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        found.append((suffix, stream.getvalue()))

    rgb, grey, palette = (colours.convert(mode) for mode in ("RGB", "L", "P"))
    for options in ({}, {"subsampling": 0}, {"progressive": True}, {"restart_marker_rows": 1}):
        add(".jpg", "JPEG", rgb, quality=90, **options)
    add(".jpg", "JPEG", rgb, exif=turned)
    add(".jpeg", "JPEG", grey)
    add(".jpg", "JPEG", rgb.convert("CMYK"))
    for picture in (rgb, grey, palette, colours, grey.convert("LA"), grey.convert("1"), deep):
        add(".png", "PNG", picture)
    add(".png", "PNG", palette, transparency=3)
    add(".png", "PNG", rgb, exif=turned)
    for form in ("WEBP", "BMP", "GIF", "TIFF", "PPM", "TGA"):
        add(f".{form.lower()}", form, rgb)
    add(".jp2", "JPEG2000", rgb)
    add(".gif", "GIF", palette, save_all=True, append_images=[palette.rotate(90)])
    add(".webp", "WEBP", rgb, save_all=True, append_images=[rgb.rotate(90)])
    add(".tif", "TIFF", deep)
    add(".tif", "TIFF", rgb, compression="tiff_lzw")
    return found


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return a damaged copy of a file; half of the damage is in the headers."""
    place = rng.randrange(1, len(data))
    how = rng.randrange(7)
    if how < 3:
        out = bytearray(data)
        last = len(data) if rng.random() < 0.5 else min(120, len(data))
        for _ in range(rng.randrange(1, 12)):
            out[rng.randrange(last)] = rng.randrange(256)
        return bytes(out)
    if how == 3:
        return data[:place]
    if how == 4:
        return data[:place] + data[place // 2 :]
    if how == 5:
        return data[:place] + rng.randbytes(rng.randrange(1, 64)) + data[place:]
    return rng.choice((b"", b"\0" * 100, rng.randbytes(300), b"<html>404</html>", data[::-1]))


def pictures(numbers: range, count: Count, net: Path, place: Path) -> None:
    """Read damaged pictures one by one, and classify them by directories."""
    kinds = picture_kinds()
    for begin in range(numbers.start, numbers.stop, A_BATCH):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        some = range(begin, min(begin + A_BATCH, numbers.stop))
        readable = 0
        for number in some:
            rng = random.Random(number)
            suffix, whole = kinds[number % len(kinds)]
            data = whole if rng.random() < 0.05 else damaged(whole, rng)
            (place / f"{number}{suffix}").write_bytes(data)
            start = time.process_time()
            try:
                readable += _reads(data, rng.choice((1, 3)), exif=rng.random() < 0.5)
                outcome, why = "read", ""
            except UserError as error:
                outcome, why = "sentence", str(error)
                if "\n" in why or "object at 0x" in why:
                    outcome = "fault: no sentence"
            except Exception as error:
                outcome, why = "fault: traceback", f"{type(error).__name__}: {error}"
            count.add([number, suffix], outcome, time.process_time() - start, why)
        table = place.parent / "answers.csv"
        words = ("predict", f"images={place}", f"weights={net}", f"out={table}")
        status, said, seconds = run(*words, most=600)
        answered = len({line.split(",")[0] for line in table.read_text().splitlines()[1:]})
        left = re.search(r"(\d+) of (\d+) files left out", said)
        outcome = outcome_of(status, said) if status else "success"
        if status == 2 and left:
            outcome = "success"
        if answered + (int(left[1]) if left else 0) != len(some):
            outcome, said = "fault: silence", f"{answered} answered; {said[-500:]}"
        outcome = outcome if outcome.startswith("fault") else "directory asked about"
        # The time limit is that of one picture.
        count.add([begin, "predict"], outcome, seconds / len(some), said)


def _reads(data: bytes, channels: int, *, exif: bool) -> bool:
    """Read a picture completely and as an input of a net; both have to succeed or fail."""
    height, width = jpeg.size_of(data, "it", exif=exif)
    pixels = jpeg.decode(data, channels, "it", exif=exif)
    assert pixels.shape == (height, width, channels) and pixels.dtype == np.uint8
    image = np.empty((32, 32, channels), np.uint8)
    show_into(image, data, "it", View((32, 32, channels), "middle", 36, True, exif))
    return True


# --- directories --------------------------------------------------------------------------------

NAMES = (
    "cat", "dog", "Zebra", "a b", "[v2]", "*", "ümlaut", "日本", "%j", "a|b", "a,b", "a'b", 'a"b',
    "x\ny", "-f", "a=b", "007", "7", "n" * 200, b"latin\xe4".decode(errors="surrogateescape"),
    ".hidden", "__MACOSX", "train", "test", "val", "Train", "Validation", "$HOME", "~", "a\\b",
    "cat.png", "[b]bold", ":skull:",
)  # fmt: skip


def a_tree(rng: random.Random, root: Path, kinds: list[tuple[str, bytes]]) -> None:
    """Make one folder per class, with typical contents of users' folders."""
    tops = [root]
    if rng.random() < 0.25:
        tops = [root / rng.choice(("train", "Training")), root / rng.choice(("test", "val", "odd"))]
    names = rng.sample(NAMES, rng.choice((0, 1, 2, 2, 2, 2, 3, 3, 4, 4)))
    for top in tops:
        top.mkdir(parents=True, exist_ok=True)
        for name in names if rng.random() < 0.95 else names[:-1]:
            folder = top / name
            folder.mkdir(exist_ok=True)
            for number in range(0 if rng.random() < 0.02 else rng.choice((1, 4, 6, 6, 8))):
                suffix, data = rng.choice(kinds)
                (folder / f"{number}{suffix}").write_bytes(data)
    folders = [path for path in root.rglob("*") if path.is_dir()] or [root]
    for _ in range(rng.choice((0, 0, 1, 2, 4))):
        folder = rng.choice([root, *folders])
        with contextlib.suppress(OSError):
            _one_more(rng, folder, root, kinds)


def _one_more(rng: random.Random, folder: Path, root: Path, kinds: list[tuple[str, bytes]]) -> None:
    """Add an unusual entry to a folder."""
    suffix, data = rng.choice(kinds)
    name = rng.choice(NAMES).replace("\n", "_")
    what = rng.randrange(10)
    if what == 0:
        (folder / f"{name}.txt").write_text("no picture")
    elif what == 1:
        (folder / f"._{name}{suffix}").write_bytes(data[:100])
    elif what == 2:
        (folder / f"bad{suffix}").write_bytes(damaged(data, rng))
    elif what == 3:
        (folder / f"gone{suffix}").symlink_to(root / "nowhere")
    elif what == 4:
        (folder / f"loop-{name}").symlink_to(root)
    elif what == 5:
        (folder / f"empty-{name}").mkdir()
    elif what == 6:
        (folder / f"deep-{name}").mkdir()
        (folder / f"deep-{name}" / f"x{suffix.upper()}").write_bytes(data)
    elif what == 7:
        (folder / f"no-suffix-{name}").write_bytes(data)
    elif what == 8:
        os.mkfifo(folder / f"pipe-{name}{suffix}")
    else:
        (folder / f"{name}-late{suffix}").write_bytes(data)


def directories(numbers: range, count: Count, place: Path) -> None:
    """Prepare mutated trees of tiny pictures."""
    kinds = picture_kinds()
    for number in numbers:
        rng = random.Random(number)
        shutil.rmtree(place, ignore_errors=True)
        root = place / "tree"
        root.mkdir(parents=True)
        a_tree(rng, root, kinds)
        status, said, seconds = run(
            "prepare", "data=folder", "data.name=tree", f"data.source={root}",
            f"data.dir={place / 'data'}", f"data.on_bad={rng.choice(('raise', 'skip'))}",
            f"data.fraction={rng.choice((0.1, 0.5, 0.9))}",
        )  # fmt: skip
        outcome = outcome_of(status, said)
        if outcome == "success":
            outcome = _told(root, said)
        count.add([number], outcome, seconds, said)


def _told(root: Path, said: str) -> str:
    """Return success if all files of a tree are in the data set or reported as left out."""
    files = [path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()]
    rows = re.findall(r"^\s+(?:train|test)\s+([\d,]+)\s*$", said, re.M)
    taken = sum(int(row.replace(",", "")) for row in rows)
    pictures_ = sum(path.suffix.lower() in SUFFIXES for path in files)
    if taken < len(files) and "left out" not in said:
        return "fault: silence"
    return "success" if 0 < taken <= pictures_ else "fault: miscounted"


# --- main ---------------------------------------------------------------------------------------


def a_net(place: Path) -> Path:
    """Train a small net for one step, to classify pictures."""
    rng = np.random.default_rng(0)
    for name in ("light", "dark"):
        (place / "tree" / name).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(0, 100, (40, 40, 3)).astype(np.uint8) + 100 * (name == "light")
            Image.fromarray(pixels).save(place / "tree" / name / f"{number}.png")
    own = ["data=folder", "data.name=shades", "data.classes=2", f"data.dir={place / 'data'}"]
    status, said, _ = run("prepare", *own, f"data.source={place / 'tree'}", most=600)
    assert status == 0, said
    status, said, _ = run(
        "train", *own, "data.image_shape=[32,32,3]", "model.depth=8", "model.width=4",
        "model.form=cifar", "train.epochs=null", "train.steps=1", "train.batch_size=8",
        f"runs={place / 'runs'}", most=600,
    )  # fmt: skip
    assert status == 0, said
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # training sets its own
    [net] = (place / "runs" / "single").iterdir()
    return net


def _too_long(number: int, frame: Any) -> None:
    raise TooLongError("much longer than it may take")


def main() -> None:
    """Run the requested numbers of cases, and write mutations.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--configs", type=int, default=10_000)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--directories", type=int, default=1_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first of each")
    parser.add_argument("--out", type=Path, default=HERE / "mutations.json")
    given = parser.parse_args()
    out = given.out.absolute()
    os.environ.update(WANDB_MODE="disabled", JAX_PLATFORMS="cpu", COLUMNS="100")
    os.environ.pop("DEEPER_DATA", None)
    signal.signal(signal.SIGALRM, _too_long)
    result: dict[str, Any] = json.loads(out.read_text()) if given.first and out.exists() else {}
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # fsync is fast there
    with tempfile.TemporaryDirectory(dir=memory) as scratch, contextlib.chdir(scratch):
        place = Path(scratch)
        (place / "empty").mkdir()
        (place / "pictures").mkdir()
        chunk = 100

        def parts(kind: str, total: int) -> Iterator[tuple[range, Count]]:
            """Yield ranges of numbers, and write the outcomes after each."""
            count = Count(kind)
            for begin in range(given.first, given.first + total, chunk):
                yield range(begin, min(begin + chunk, given.first + total)), count
                result[kind] = count.plain()
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
                result["peak_memory_gib"] = round(peak / 2**30, 2)
                result["memory_is_below_2_gib"] = bool(peak <= BYTES)
                out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

        net = a_net(place / "net")  # also imports the slow modules
        for numbers, count in parts("directories", given.directories):
            directories(numbers, count, place / "trees")
        if given.pictures:
            chunk = A_BATCH
            for numbers, count in parts("pictures", given.pictures):
                pictures(numbers, count, net, place / "damaged")
        chunk = 100
        for numbers, count in parts("configs", given.configs):
            configs(numbers, count)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
