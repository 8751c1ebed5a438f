"""What trains when: the phases of a run, and the net that a run begins from, cut where it says."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import optax
from omegaconf import DictConfig, OmegaConf

from deeper.data.encoded_images import MIDDLE
from deeper.errors import UserError
from deeper.models.feature_maps import LastLayer, truncated
from deeper.profile.stages import HEAD, HIDDEN, Stages, stages_of
from deeper.train.phases import Phase

PHASE_KEYS = ("stages", "share", "rate", "lr_decay")


@dataclass(frozen=True)
class PhaseConfig:
    """One entry of ``transfer.phases``.

    Attributes:
        stages: how many of the deepest stages train with the head, or ``all``.
        share: of the run's steps.
        rate: factor of the optimizer's learning rate.
        lr_decay: factor of the rate a stage towards the image.
    """

    stages: int | str
    share: float
    rate: float
    lr_decay: float

    def trained(self, stages: Stages) -> list[str]:
        """Return the stages that train, the head among them."""
        if self.stages == "all":
            return list(stages.layers)
        deepest = stages.names[len(stages.names) - int(self.stages) :]
        return [*deepest, *([HIDDEN] if self.stages else []), HEAD]


def cut(model: nn.Module, config: DictConfig) -> nn.Module:
    """Return the net, up to ``transfer.truncate_at`` where that is given."""
    at = OmegaConf.select(config, "transfer.truncate_at")
    if at is None:
        return model
    known = stages_of(model, tuple(config.data.image_shape)).names
    if at not in known:
        raise UserError(
            f"transfer.truncate_at={at}: this net has no such stage to end at; it has "
            f"{', '.join(known)}."
        )
    return truncated(model, at, config.data.classes)


def phase_configs(config: DictConfig, stages: Stages) -> list[PhaseConfig]:
    """Return the checked entries of ``transfer.phases``, none where there are none."""
    given: Any = OmegaConf.to_container(config.transfer, resolve=True)
    found = []
    for number, entry in enumerate(given["phases"] or []):
        where = f"transfer.phases[{number}]"
        if not isinstance(entry, dict) or set(entry) != set(PHASE_KEYS):
            raise UserError(f"{where} is {entry}: it needs {', '.join(PHASE_KEYS)}.")
        one = PhaseConfig(**entry)
        most = len(stages.names)
        if one.stages != "all" and not (isinstance(one.stages, int) and 0 <= one.stages <= most):
            raise UserError(
                f"{where}.stages={one.stages}: give 0 (the head alone) to {most}, or all; the net "
                f"has {', '.join(stages.names)}."
            )
        for key in ("share", "rate", "lr_decay"):
            value = getattr(one, key)
            if not isinstance(value, int | float) or not 0 < value < math.inf:
                raise UserError(f"{where}.{key}={value}: give a number above 0.")
        found.append(one)
    total = sum(one.share for one in found)
    if found and not math.isclose(total, 1.0, abs_tol=1e-6):
        raise UserError(f"transfer.phases: their shares add up to {total:g}; they have to make 1.")
    return found


def phases_of(
    configs: list[PhaseConfig],
    stages: Stages,
    steps: int,
    make: Callable[[float, int], tuple[optax.GradientTransformation, optax.Schedule]],
) -> tuple[Phase, ...]:
    """Return the phases of a run.

    Args:
        configs: from `phase_configs`; empty for a run that trains everything throughout.
        stages: of the net.
        steps: length of the run.
        make: (factor of the learning rate, steps) -> optimizer and its schedule.
    """
    if not configs:
        return (Phase(0, steps, *make(1.0, steps)),)
    found, begins, share = [], 0, 0.0
    for number, one in enumerate(configs):
        share += one.share
        ends = steps if number == len(configs) - 1 else round(share * steps)
        if ends <= begins:
            raise UserError(
                f"transfer.phases[{number}] has no step: {one.share:g} of {steps} steps is too "
                "little."
            )
        rates = _multipliers(one, stages)
        frozen = {layer for layer, rate in rates.items() if rate == 0.0}
        quiet = frozen | {noise for noise, layer in stages.noise.items() if layer in frozen}
        found.append(Phase(begins, ends, *make(one.rate, ends - begins), rates, frozenset(quiet)))
        begins = ends
    return tuple(found)


def _multipliers(one: PhaseConfig, stages: Stages) -> dict[str, float]:
    """Return each layer's factor, zero where it does not train."""
    trained = one.trained(stages)
    return {
        layer: one.lr_decay ** (len(stages.layers) - 1 - place) if stage in trained else 0.0
        for place, (stage, layers) in enumerate(stages.layers.items())
        for layer in layers
    }


def last_layer(
    configs: list[PhaseConfig], config: DictConfig, stages: Stages, shapes: Any
) -> nn.Module | None:
    """Return the last layer alone where a run trains nothing else and always sees the same images.

    Then the features that it gets are computed once.
    """
    alone = len(configs) == 1 and configs[0].stages == 0
    if not alone or config.augment or config.train.consistency is not None:
        return None
    if config.data.get("crop", MIDDLE) != MIDDLE:
        return None  # photographs are cropped at random
    if set(shapes["params"][stages.head]) != {"kernel", "bias"}:
        return None  # not a dense layer: its input is computed every step
    return LastLayer(stages.head, config.data.classes)
