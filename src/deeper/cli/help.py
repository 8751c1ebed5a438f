"""The text of ``deeper VERB --help``.

The meanings of keys are the comments in ``conf/VERB.yaml``; this file has descriptions of the verbs
and examples.
"""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WIDTH, COLUMN = 79, 26  # width of the text, and column of the meanings of keys


@dataclass(frozen=True)
class Verb:
    """The help of a verb.

    Attributes:
        usage: after ``deeper``.
        about: what it does.
        examples: commands.
        groups: config groups of ``conf/`` that the verb uses.
    """

    usage: str
    about: str
    examples: tuple[str, ...]
    groups: tuple[str, ...] = ()


TRAINING = ("model", "data", "augment", "optimizer", "schedule", "recipe", "transfer", "mode")

VERBS = {
    "train": Verb(
        "train [-m] [key=value ...]",
        "Train a net. The run directory's name is a function of the config: a finished run is not "
        "repeated, an unfinished one goes on from its last checkpoint. With -m, values separated "
        "by commas make a sweep, whose runs train in processes of their own.",
        (
            "deeper train model=resnet model.depth=20 data=fashion_mnist train.epochs=3",
            "deeper train -m model=lenet5,vgg,resnet seed=0,1,2",
            "deeper train -m study=depth_fashion mode=quick",
        ),
        (*TRAINING, "train", "tracker", "study"),
    ),
    "sweep": Verb(
        "sweep status|resume|cancel study=NAME [key=value ...]",
        "Show, resume or cancel a sweep that was started with deeper train -m, from any terminal. "
        "resume starts what is neither finished nor under way; cancel lets each run write a "
        "checkpoint first.",
        (
            "deeper sweep status study=depth_fashion",
            "deeper sweep resume study=depth_fashion",
            "deeper sweep cancel study=depth_fashion mode=quick",
        ),
        ("study", "mode"),
    ),
    "search": Verb(
        "search [status|finish|lr] study=NAME [trials=N] [key=value ...]",
        "Choose values among search.space by the validation split, and rerun winner and baseline "
        "with fresh seeds. finish trains a trial that was cut at a rung; lr tests learning rates.",
        (
            "deeper search study=search_fashion trials=40 jobs=2",
            "deeper search status study=search_fashion",
            "deeper search lr model=resnet data=fashion_mnist",
        ),
        ("study", "mode"),
    ),
    "report": Verb(
        "report study=NAME [key=value ...]",
        "Make a study's tables, figures and page (report.html) from its run directories. A study "
        "that is not finished is reported with a list of the runs that are missing.",
        (
            "deeper report study=depth_fashion",
            "deeper report study=depth_fashion mode=quick",
            "deeper report study=depth_fashion mode=full runs=/scratch/runs wandb=true",
        ),
        ("study", "mode"),
    ),
    "evaluate": Verb(
        "evaluate run=DIRECTORY [key=value ...]",
        "Evaluate a run's checkpoint, or imported weights, on every example of a split: top-1 and "
        "top-5 error, error by class, calibration error, negative log-likelihood. Or run a suite: "
        "corrupted images, or other test sets of the same classes.",
        (
            "deeper evaluate run=runs/single/NAME",
            "deeper evaluate run=runs/single/NAME protocol=10crop checkpoint=best",
            "deeper evaluate run=runs/single/NAME split=validation out=result.json",
            "deeper evaluate run=runs/single/NAME suite=corrupt",
        ),
        ("data",),
    ),
    "inspect": Verb(
        "inspect model=NAME data=NAME [key=value ...]",
        "Print a net layer by layer: shapes, parameters, multiply-accumulates, receptive fields "
        "and memory for train.batch_size. With augment=NAME, draw images as that augmentation "
        "changes them. For a single convolution see deeper inspect conv --help.",
        (
            "deeper inspect model=vgg model.depth=16 data=imagenet",
            "deeper inspect compare=[vgg-16,resnet-50] out=nets.png",
            "deeper inspect augment=randaugment data=fashion_mnist",
        ),
        ("model", "data", "augment"),
    ),
    "convolution": Verb(
        "inspect conv input=HEIGHTxWIDTHxCHANNELS [key=value ...]",
        "Compute one convolution's, pooling's or transposed convolution's output size, parameters "
        "and multiply-accumulates, and draw it.",
        (
            "deeper inspect conv input=640x480x3 channels=1000 kernel=3 stride=2 padding=1",
            "deeper inspect conv input=28x28 kind=pool kernel=2 stride=2",
            "deeper inspect conv input=7x7 kernel=3 animate=true out=window.gif",
        ),
    ),
    "predict": Verb(
        "predict images=PATH|inputs=TEXT weights=DIRECTORY [key=value ...]",
        "Name the five most probable classes of each image, text or sound.",
        (
            "deeper predict images=photographs weights=runs/resnet50",
            "deeper predict images=cat.jpg weights=runs/single/NAME checkpoint=best",
            "deeper predict \"inputs='Det er en hund.'\" weights=runs/single/NAME",
        ),
    ),
    "see": Verb(
        "see run=DIRECTORY [key=value ...]",
        "Draw what a net's layers respond to and which pixels its answers depend on, as sheets "
        "(PNG) and a page; or, with score=, measure how far methods of attribution can be trusted.",
        (
            "deeper see run=runs/single/NAME",
            "deeper see run=runs/single/NAME method=attribution images=cats classes=[cat,dog]",
            "deeper see run=runs/single/NAME score=all attribution=[grad_cam,occlusion] split=test",
            "deeper see run=runs/single/NAME method=attribution \"inputs='Det er en hund.'\"",
        ),
    ),
    "features": Verb(
        "features run=DIRECTORY [key=value ...]",
        "Compute a layer's features for every image of a data set, write them for use elsewhere, "
        "and measure how well logistic regression and nearest neighbours classify by them.",
        (
            "deeper features run=runs/single/NAME",
            "deeper features run=runs/single/NAME layer=stage2 out=features.npz",
            "deeper features run=runs/single/NAME data=digits examples=100",
        ),
        ("data",),
    ),
    "weights": Verb(
        "weights [import=FILE | run=DIRECTORY] out=PATH [key=value ...]",
        "Import a file of torchvision's or timm's weights, as a program saved it: the net, its "
        "classes and its preprocessing are read from the file. Or export a run's net to "
        ".safetensors, .stablehlo or .onnx, or to the Hugging Face Hub with a model card.",
        (
            "deeper weights import=resnet50.pth out=runs/resnet50",
            "deeper weights import=checkpoint.pth.tar ema=true names=photographs/train "
            "out=runs/pets",
            "deeper weights run=runs/single/NAME checkpoint=best out=net.stablehlo",
            "deeper weights run=runs/single/NAME push=OWNER/NAME",
        ),
        ("model", "data"),
    ),
    "prepare": Verb(
        "prepare data=NAME [key=value ...]",
        "Download or read a data set's original files, check them, and write them where training "
        "reads them. What is prepared already is not made again.",
        (
            "deeper prepare data=fashion_mnist",
            "deeper prepare data=imagenet data.source=DIRECTORY",
            "deeper prepare data=folder data.name=flowers data.source=DIRECTORY",
        ),
        ("data",),
    ),
    "sync": Verb(
        "sync [runs=DIRECTORY] [key=value ...]",
        "Send the records of runs that were offline, or were killed, to Weights & Biases. Rows "
        "that are there already are not sent again.",
        (
            "deeper sync",
            "deeper sync runs=runs/depth_fashion",
            "deeper sync runs=runs/single/NAME upload=offline",
        ),
    ),
    "doctor": Verb(
        "doctor [data=NAME] [key=value ...]",
        "List what this machine has (devices, versions, data, disk) and what is missing. With "
        "compile=h200 or v5e, compile a config's training step for devices that are not there, and "
        "say whether it fits, what it starts and moves, and what it takes at least.",
        (
            "deeper doctor",
            "deeper doctor data=cifar10",
            "deeper doctor compile=h200 model=resnet model.depth=50 data=imagenet "
            "train.batch_size=256 train.dtype=bfloat16",
        ),
        ("model", "data"),
    ),
}


def help_of(verb: str, conf: Path) -> str:
    """Return the help of a verb.

    Args:
        verb: the name of its file in ``conf/``.
        conf: the directory of the YAML files.
    """
    text = VERBS[verb]
    parts = [f"usage: deeper {text.usage}", textwrap.fill(text.about, WIDTH)]
    parts.append("Keys:\n" + "\n".join(_key(*key) for key in keys_of(conf / f"{verb}.yaml")))
    if text.groups:
        choices = (_key(f"{group}=", _choices(conf / group)) for group in text.groups)
        parts.append("Choices, each a file in conf/ that sets values:\n" + "\n".join(choices))
        if verb == "train":
            parts.append("task=NAME is a task of your own, a file of task/ in your --config-dir.")
    parts.append("Examples:\n" + "\n".join(_example(example) for example in text.examples))
    parts.append("With --cfg job, every value that is set is printed, and nothing is done.")
    return "\n\n".join(parts)


def keys_of(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each key of a YAML file with its default and comment."""
    section, name, words = "", "", ""
    for line in file.read_text(encoding="utf-8").splitlines():
        key = re.match(r"( *)(\w+):(?: +(?!#)(.*?))?(?: +# +(.*))?$", line)
        more = re.match(r" +# +(.*)$", line)
        if more and name:
            words += f" {more[1]}"
            continue
        if name:
            yield name, words
            name = ""
        if key is None:
            continue
        indent, word, value, comment = key.groups()
        if not indent:
            section = "" if value else f"{word}."
        if not value or section in ("hydra.", "defaults."):
            continue
        required = value == "???"
        shown = "" if required or value == "null" else value
        name = f"{section if indent else ''}{word}={shown}"
        words = f"{'(required) ' if required else ''}{comment or ''}"
    if name:
        yield name, words


def used_keys(verb: str, conf: Path) -> set[str]:
    """Return the keys of a verb's file, at the top of its config, and the groups that it uses."""
    names = (name for name, _ in keys_of(conf / f"{verb}.yaml"))
    return {*(re.split(r"[.=]", name)[0] for name in names), *VERBS[verb].groups}


def _choices(folder: Path) -> str:
    return ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))


def _key(name: str, words: str) -> str:
    begin = f"  {name:<{COLUMN - 3}} "
    if len(begin) > COLUMN:
        begin = f"  {name}\n{' ' * COLUMN}"
    text = textwrap.wrap(words, WIDTH - COLUMN, break_on_hyphens=False) or [""]
    return (begin + f"\n{' ' * COLUMN}".join(text)).rstrip()


def _example(command: str) -> str:
    lines = textwrap.wrap(command, WIDTH - 8, break_on_hyphens=False, break_long_words=False)
    return "  " + " \\\n      ".join(lines)
