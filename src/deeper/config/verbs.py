"""The keys of each command, in addition to or instead of those of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from deeper.config.calls import TARGET
from deeper.config.data_sections import kind_of
from deeper.config.schema import RunConfig
from deeper.config.search_section import SearchSection
from deeper.config.settings import OpenSection, read_open, setting

Checkpoint = int | Literal["last", "best"]


@dataclass(frozen=True)
class Launching:
    """``deeper train -m``: how a sweep is launched."""

    launch: Literal["wait", "detach"] = setting("stay, or give the terminal back")
    code: str | None = setting("what the arms run: snapshot or tree")
    jobs: int | None = setting("arms at a time", least=1)
    runs: str = setting("where run directories go")


@dataclass(frozen=True)
class Sweep(Launching):
    """``deeper sweep``."""

    action: Literal["status", "resume", "cancel"] = setting("what to do with the sweep")
    all: bool = setting("show each finished arm and each that waits")
    format: Literal["table", "json"] = setting("of what is shown")


@dataclass(frozen=True)
class Search(Launching):
    """``deeper search``."""

    launch: Literal["wait"] = setting("a search stays to choose; start it with nohup")
    action: Literal["run", "status", "finish", "lr"] = setting("what to do with the search")
    trials: int = setting("of the search in all", least=1)
    trial: int | None = setting("number of a trial", least=0)
    readme: str | None = setting("a README whose generated parts are brought up to date")
    search: SearchSection = setting("what is chosen among, and how")


@dataclass(frozen=True)
class Report:
    """``deeper report``."""

    runs: str = setting("where run directories are")
    readme: str | None = setting("a README whose generated parts are brought up to date")
    wandb: bool = setting("write it at Weights & Biases too")


@dataclass(frozen=True)
class Evaluate:
    """``deeper evaluate``."""

    run: str = setting("a run directory")
    protocol: str = setting("how images are shown")
    suite: str | None = setting("several evaluations: corrupt or robust")
    frost: str | None = setting("directory of the frost pictures of suite=corrupt")
    calibration: bool = setting("fit a temperature on validation, and draw the reliability")
    shorter_side: int | None = setting("of photographs, pixels", least=1)
    padding: int | None = setting("pixels of zeros on each side", least=1)
    split: str = setting("train, validation or test")
    checkpoint: Checkpoint = setting("of the run; a number is a step", least=0)
    labels: str | None = setting("a file of several right answers a photograph")
    batch_size: int | None = setting("examples at a time", least=1)
    only: Literal["subset"] | None = setting("choose among the classes in the data alone")
    out: str | None = setting("a JSON file for the result")
    wandb: bool = setting("send it to Weights & Biases too")


@dataclass(frozen=True)
class Predict:
    """``deeper predict``."""

    images: str | None = setting("a file, or a directory of files")
    inputs: str | None = setting("a text, a file or a directory, for a net of sequences")
    weights: str = setting("a run directory")
    checkpoint: Checkpoint = setting("of the run; a number is a step", least=0)
    crop: float | None = setting("share of the shorter side that the net sees", above=0, most=1)
    batch_size: int = setting("pictures at a time", least=1)
    out: str | None = setting("a CSV file for the answers")


@dataclass(frozen=True)
class See:
    """``deeper see``."""

    run: str = setting("a run directory")
    checkpoint: Checkpoint = setting("of the run; a number is a step", least=0)
    layer: str | None = setting("a stage or a layer")
    examples: int = setting("of the split, at most", least=1)
    images: str | None = setting("pictures in the place of the split")
    inputs: str | None = setting("a text, a file or a directory, for a net of sequences")
    classes: tuple[int | str, ...] | None = setting("by number or name", least=0)
    detection: int | None = setting("which of each photograph's, by falling score", least=0)
    attribution: str | tuple[str, ...] = setting("methods, or all of them")
    score: str | tuple[str, ...] | None = setting("of methods of attribution, or all of them")
    n: int | None = setting("images that are shown or scored", least=1)
    channels: int = setting("of each layer that deconvnet shows", least=1)
    other: str | None = setting("another run beside this one")
    wandb: bool = setting("send the sheets to Weights & Biases too")
    out: str | None = setting("a directory for the sheets")


@dataclass(frozen=True)
class Features:
    """``deeper features``."""

    run: str = setting("a run directory")
    checkpoint: Checkpoint = setting("of the run; a number is a step", least=0)
    layer: str | None = setting("a stage or a layer")
    examples: int | None = setting("of the training split, a count", least=1)
    draw: int = setting("which of the ways to choose them", least=0)
    batch_size: int = setting("images at a time", least=1)
    out: str | None = setting("an .npz file")


@dataclass(frozen=True)
class Weights:
    """``deeper weights``; the key ``import`` is read by the command."""

    run: str | None = setting("a run directory")
    checkpoint: Checkpoint = setting("of the run; a number is a step", least=0)
    out: str | None = setting("a directory for import, a file otherwise")
    prefix: str | None = setting("in front of the net's names")
    ema: bool = setting("take the averages over training")
    names: str | None = setting("class names for import; of arrays in a .safetensors file")
    channels: Literal[1] | None = setting("of images that the first convolution is adapted to")
    card: bool = setting("write what the Hugging Face Hub takes")
    push: str | None = setting("OWNER/NAME on the Hugging Face Hub")


@dataclass(frozen=True)
class Prepare:
    """``deeper prepare``."""

    shorter_side: int | None = setting("of photographs: larger ones are made as small", least=1)


@dataclass(frozen=True)
class Inspect:
    """``deeper inspect``."""

    format: Literal["table", "json", "csv", "markdown"] = setting("of what is printed")
    compare: tuple[str, ...] | None = setting("nets beside each other")
    out: str | None = setting("a picture")
    sheet: int = setting("images on the contact sheet", least=2)


@dataclass(frozen=True)
class Convolution:
    """``deeper inspect conv``."""

    kind: Literal["conv", "pool", "transposed"] = setting("of the layer")
    channels: int = setting("of the result", least=1)
    kernel: int = setting("side of the window", least=1)
    stride: int = setting("of the window", least=1)
    padding: int = setting("zeros on each side", least=0)
    dilation: int = setting("distance of the window's places", least=1)
    groups: int = setting("of channels", least=1)
    bias: bool = setting("with a bias")
    out: str | None = setting("a picture of the sliding window")
    animate: bool = setting("make the picture move")


@dataclass(frozen=True)
class Doctor:
    """``deeper doctor``."""

    compile: Literal["h200", "v5e"] | None = setting("devices to compile the step for")
    runs: str = setting("where run directories go")


@dataclass(frozen=True)
class Sync:
    """``deeper sync``."""

    runs: str = setting("a run directory, a study's, or all of them")
    upload: Literal["online", "offline"] = setting("where the records go")


VERBS: dict[str, type] = {
    "train": Launching,
    "sweep": Sweep,
    "search": Search,
    "report": Report,
    "evaluate": Evaluate,
    "predict": Predict,
    "see": See,
    "features": Features,
    "weights": Weights,
    "prepare": Prepare,
    "inspect": Inspect,
    "convolution": Convolution,
    "doctor": Doctor,
    "sync": Sync,
}


@dataclass(frozen=True)
class LocalLauncher:
    """``hydra/launcher=local``."""

    jobs: int | None = setting("arms at a time", least=1)


@dataclass(frozen=True)
class SlurmLauncher:
    """``hydra/launcher=slurm``."""

    partition: str | None = setting("of the cluster")
    account: str | None = setting("of the cluster")
    qos: str | None = setting("of the cluster")
    constraint: str | None = setting("features of nodes")
    timeout_min: int = setting("minutes of one start of an arm", least=1)
    nodes: int = setting("of each arm", least=1)
    tasks_per_node: int = setting("processes", least=1)
    gpus_per_node: int | str | None = setting("number, or TYPE:NUMBER", least=0)
    cpus_per_task: int | None = setting("cores", least=1)
    mem_gb: float | None = setting("memory of a node", above=0)
    array_parallelism: int | None = setting("arms at a time", least=1)
    signal_delay_s: int = setting("seconds before the limit", least=0)
    max_num_timeout: int = setting("how often an arm may reach the limit", least=0)
    setup: tuple[str, ...] = setting("lines of shell before the arm")
    srun_args: tuple[str, ...] = setting("options of srun")
    additional_parameters: OpenSection = setting("other options of sbatch")


LAUNCHERS: dict[str, type] = {"local": LocalLauncher, "slurm": SlurmLauncher}


def read_keys(verb: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the command's own keys and return its config; other keys are not changed.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    typed, written = read_open(VERBS[verb], values, "")
    # A number is accepted where a text is expected, such as the name of a directory.
    return {key: typed[key] if isinstance(typed[key], str) else written[key] for key in written}


def check_sections(values: Mapping[str, Any]) -> None:
    """Check the sections of a run's config that a command uses.

    Args:
        values: sections and values at the top of a config; ``???`` where one is missing.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    given = {key: value for key, value in values.items() if value != "???"}
    data = given.pop("data", None)
    if isinstance(data, Mapping):
        data = {key: value for key, value in data.items() if value != "???"}
    if isinstance(data, Mapping) and TARGET not in data:
        read_open(kind_of(data), data, "data")
    elif "data" in values:
        read_open(RunConfig, {"data": data}, "")
    read_open(RunConfig, given, "")


def read_launcher(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check and return a launcher's settings.

    Raises:
        UserError: names the key, the value and what is allowed.
    """
    return read_open(LAUNCHERS[name], settings, "hydra.launcher")[1]
