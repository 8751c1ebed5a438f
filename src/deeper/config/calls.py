"""Config sections with a constructor: ``_target_`` and its arguments.

Arguments of deeper's constructors are checked against the types and ranges declared here by name.
Unlisted arguments, and those of a user's own targets, are left to the constructor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from deeper.config.settings import (
    Limits,
    OpenSection,
    ReadBy,
    UnfitError,
    read_open,
    read_value,
    setting,
)

TARGET = "_target_"
DEEPER = "deeper"
_NO_LIMITS = Limits()


def package_of(target: str) -> str:
    """Return the package that a target belongs to."""
    return target.partition(".")[0].partition(":")[0]


def _read_call(declared: type, value: Any, key: str) -> tuple[OpenSection, dict[str, Any]]:
    """Read a section with a target; check the arguments if it is deeper's."""
    if not isinstance(value, Mapping) or TARGET not in value:
        raise UnfitError
    target, _ = read_value(value[TARGET], str, limits=_NO_LIMITS, key=f"{key}.{TARGET}")
    return read_open(declared if package_of(target) == DEEPER else _UncheckedArguments, value, key)


@dataclass(frozen=True)
class _UncheckedArguments:
    """The arguments of a user's own target, which are not checked."""


@dataclass(frozen=True)
class ModelArguments:
    """Arguments of deeper's nets; the files of conf/model list those of each net."""

    depth: int | None = setting("layers with weights", least=1)
    classes: int = setting("of the data set", least=1)
    width: int | None = setting("channels of the first stage", least=1)
    blocks: tuple[int, ...] | None = setting("blocks a stage, in place of the depth", least=1)
    groups: int = setting("of a bottleneck's 3x3 convolution", least=1)
    width_per_group: int = setting("channels of a group", least=1)
    hidden: int = setting("width of the hidden dense layers", least=1)
    pool_size: int | None = setting(
        "side of the map that AlexNet's and VGG's dense layers take", least=1
    )
    dropout: float | None = setting("share of the values that are dropped", least=0, below=1)
    auxiliary_dropout: float | None = setting("of the auxiliary heads", least=0, below=1)
    auxiliary: bool = setting("heads that answer in training alone")
    residual: bool = setting("with shortcuts")
    batch_norm: bool = setting("with BatchNorm")
    pre_activation: bool = setting("He et al. 2016")
    bottleneck: bool | None = setting("three convolutions a block, with blocks")
    zero_init_last: bool = setting("each block's last scale begins at zero")
    squeeze: int | None = setting("reduction of squeeze-and-excitation, 16 in the paper", least=1)
    stochastic_depth: float | None = setting(
        "share of the last block's branches left out in training", least=0, below=1
    )
    squeeze_excitation: bool | None = setting("in each branch (Hu et al. 2017)")
    growth: int | None = setting("channels that each layer of a DenseNet adds", least=1)
    compression: float | None = setting(
        "share of the channels that a transition keeps", above=0, most=1
    )
    width_multiplier: float = setting("of all channels", above=0)
    layer_scale: float = setting("first value of the factors of a branch's channels", least=0)
    scan: bool = setting("one compiled loop over alike blocks")
    remat: bool = setting("recompute activations in the backward pass")
    dtype: Literal["float32", "bfloat16"] = setting("of the computation")


@dataclass(frozen=True)
class OptimizerArguments:
    """Arguments of the optimizers; see `deeper.train.optimizer`."""

    learning_rate: float = setting("peak, per 256 examples", above=0)
    momentum: float = setting("decay of the velocity", least=0, below=1)
    nesterov: bool = setting("look ahead along the momentum")
    weight_decay: float = setting("its coefficient", least=0)
    decay_all: bool = setting("decay biases and normalisation too")
    b1: float = setting("decay of the first moment", least=0, below=1)
    b2: float = setting("decay of the second moment", least=0, below=1)
    eps: float = setting("added to the root of the second moment", above=0)
    trust_coefficient: float = setting("ratio of update to weight norm", above=0)


@dataclass(frozen=True)
class ScheduleArguments:
    """Arguments of the schedules; see `deeper.train.schedule`."""

    warmup: float = setting("share of the steps that a linear rise takes", least=0, below=1)
    milestones: tuple[float, ...] = setting("shares of the run", least=0, below=1)
    factor: float = setting("multiplies the rate at each drop", above=0)
    every: float = setting("share of the run from one drop to the next", above=0, most=1)
    begin: float = setting("first rate as a share of the peak", above=0, below=1)


@dataclass(frozen=True)
class OperationArguments:
    """Arguments of the augmentation operations; see `deeper.augment`."""

    padding: int = setting("pixels on each side", least=0)
    size: int | None = setting("side in pixels", least=1)
    probability: float = setting("share of the images, or batches", least=0, most=1)
    per_example: bool = setting("draw for each example, not once a batch")
    alpha: float = setting("of the Beta distribution", above=0)
    classes: int = setting("of the data set", least=1)
    std: float = setting("of the shift", least=0)
    scale: tuple[float, ...] = setting("least and largest area, as shares", least=0, length=2)
    ratio: tuple[float, ...] = setting("least and largest aspect ratio", above=0, length=2)
    sigma: tuple[float, ...] = setting("least and largest deviation, pixels", least=0, length=2)
    fill: tuple[float, ...] = setting("a value a channel", least=0, most=1)
    layers: int = setting("operations an image", least=1)
    magnitude: float = setting("of the operations", least=0)
    deviation: float = setting("of the magnitude", least=0)
    bins: int = setting("magnitudes in all", least=2)
    width: int = setting("chains of operations", least=1)
    depth: int | None = setting("operations in a chain", least=1)
    on_grey: Literal["drop", "refuse"] = setting("operations on colour, on grey images")
    brightness: float = setting("largest change", least=0)
    contrast: float = setting("largest change", least=0)
    saturation: float = setting("largest change", least=0)
    hue: float = setting("largest change, of the circle", least=0, most=0.5)
    first: "Operation" = setting("operation")
    second: "Operation" = setting("operation")


@dataclass(frozen=True)
class ConsistencyArguments:
    """Arguments of `deeper.tasks.consistency.Consistency`."""

    ratio: int = setting("unlabelled images for each labelled one", least=1)
    weight: float = setting("of the unlabelled images' loss", least=0)
    temperature: float = setting("of the target; sharper below 1", above=0)
    confidence: float = setting("least probability that counts", least=0, below=1)
    target: Literal["soft", "hard"] = setting("probabilities, or the best class")
    annealing: Literal["none", "linear", "log", "exp"] = setting("of the training signal")


def _call(declared: type, allowed: str) -> ReadBy:
    return ReadBy(partial(_read_call, declared), allowed)


OwnCall = Annotated[OpenSection, _call(_UncheckedArguments, "a section with _target_")]
_GIVEN = "a section with _target_, as {0}=NAME of conf/{0} gives it"
Model = Annotated[OpenSection, _call(ModelArguments, _GIVEN.format("model"))]
Optimizer = Annotated[OpenSection, _call(OptimizerArguments, _GIVEN.format("optimizer"))]
Schedule = Annotated[OpenSection, _call(ScheduleArguments, _GIVEN.format("schedule"))]
Operation = Annotated[OpenSection, _call(OperationArguments, "operations, each with _target_")]
Consistency = Annotated[
    OpenSection, _call(ConsistencyArguments, "a section with _target_, as train=uda gives it")
]
