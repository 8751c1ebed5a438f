"""Transfer: the phases of a run, and truncated nets."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import optax

from deeper.config import schema
from deeper.config.schema import RunConfig
from deeper.data.encoded_images import MIDDLE
from deeper.errors import UserError
from deeper.models.feature_maps import LastLayer, truncated
from deeper.profile.stages import HEAD, HIDDEN, Stages, stages_of
from deeper.train.phases import Phase


def trained(phase: schema.Phase, stages: Stages) -> list[str]:
    """Return the stages that train in a phase, including the head."""
    if phase.stages == "all":
        return list(stages.layers)
    deepest = stages.names[len(stages.names) - int(phase.stages) :]
    return [*deepest, *([HIDDEN] if phase.stages else []), HEAD]


def cut(model: nn.Module, config: RunConfig) -> nn.Module:
    """Return the net, truncated at ``transfer.truncate_at`` if it is given."""
    at = config.transfer.truncate_at
    if at is None:
        return model
    known = stages_of(model, config.data.example[0]).names
    if at not in known:
        raise UserError(
            f"transfer.truncate_at={at}: this net has no such stage to end at; it has "
            f"{', '.join(known)}."
        )
    return truncated(model, at, config.data.classes)


def phase_configs(config: RunConfig, stages: Stages) -> list[schema.Phase]:
    """Return the entries of ``transfer.phases``.

    Raises:
        UserError: the net has fewer stages, or the shares do not add up to 1.
    """
    phases = list(config.transfer.phases or ())
    most = len(stages.names)
    for number, phase in enumerate(phases):
        if phase.stages != "all" and int(phase.stages) > most:
            raise UserError(
                f"transfer.phases[{number}].stages={phase.stages}: give 0 (the head alone) to "
                f"{most}, or all; the net has {', '.join(stages.names)}."
            )
    total = sum(phase.share for phase in phases)
    if phases and not math.isclose(total, 1.0, abs_tol=1e-6):
        raise UserError(f"transfer.phases: their shares add up to {total:g}; they have to make 1.")
    return phases


def phases_of(
    configs: list[schema.Phase],
    stages: Stages,
    steps: int,
    make: Callable[[float, int], tuple[optax.GradientTransformation, optax.Schedule]],
) -> tuple[Phase, ...]:
    """Return the phases of a run.

    Args:
        configs: from `phase_configs`; empty for a run that trains all layers throughout.
        stages: stages of the net.
        steps: length of the run.
        make: (factor of the learning rate, steps) -> optimizer and its schedule.
    """
    if not configs:
        return (Phase(0, steps, *make(1.0, steps)),)
    phases, begins, share = [], 0, 0.0
    for number, phase in enumerate(configs):
        share += phase.share
        ends = steps if number == len(configs) - 1 else round(share * steps)
        if ends <= begins:
            raise UserError(
                f"transfer.phases[{number}] has no step: {phase.share:g} of {steps} steps is too "
                "little."
            )
        rates = _multipliers(phase, stages)
        frozen = {layer for layer, rate in rates.items() if rate == 0.0}
        quiet = frozen | {noise for noise, layer in stages.noise.items() if layer in frozen}
        phases.append(
            Phase(begins, ends, *make(phase.rate, ends - begins), rates, frozenset(quiet))
        )
        begins = ends
    return tuple(phases)


def _multipliers(phase: schema.Phase, stages: Stages) -> dict[str, float]:
    """Return each layer's factor of the learning rate, zero for frozen layers."""
    learning = trained(phase, stages)
    return {
        layer: phase.lr_decay ** (len(stages.layers) - 1 - place) if stage in learning else 0.0
        for place, (stage, layers) in enumerate(stages.layers.items())
        for layer in layers
    }


def last_layer(
    configs: list[schema.Phase], config: RunConfig, stages: Stages, shapes: Any
) -> nn.Module | None:
    """Return the last layer, if a run trains nothing else and always sees the same images.

    Its inputs are then computed once.
    """
    alone = len(configs) == 1 and configs[0].stages == 0
    if not alone or config.augment or config.train.consistency is not None or config.task:
        return None
    if config.data.of_any_size and config.data.crop != MIDDLE:
        return None  # random crops of photographs
    if set(shapes["params"][stages.head]) != {"kernel", "bias"}:
        return None  # not a dense layer: its input is computed every step
    return LastLayer(stages.head, config.data.classes)
