"""Totals of a net: depth, parameters, multiply-accumulates, receptive field, memory."""

from collections.abc import Sequence
from typing import Any

from deeper.config import instantiate
from deeper.config.schema import RunConfig
from deeper.interpret.traced_net import unrolled
from deeper.models.example import Example
from deeper.profile.depth_figure import Net
from deeper.profile.layer_table import Layer, depth_of, layers_of
from deeper.profile.macs import summarise
from deeper.run import build
from deeper.run.cost import training_bytes


def totals_of(config: RunConfig, layers: Sequence[Layer], example: Example) -> dict[str, Any]:
    """Return the totals of the net, with memory by data type.

    Args:
        config: config of the run.
        layers: layers of its net.
        example: shape and type of one input, see `models.example`.
    """
    summary = summarise(build.build_model(config), example)
    memory = {}
    for dtype in ("float32", "bfloat16"):
        counted = summary
        if "dtype" in config.model:
            counted = summarise(instantiate.build(config.model, dtype=dtype), example)
        memory[dtype] = training_bytes(config, counted)
    return {
        "label": config.label,
        "depth": depth_of(layers),
        "parameters": summary.parameters,
        "macs": summary.macs,
        "receptive_field": _largest_field(layers),
        "activation_bytes": summary.residual_bytes,
        "batch_size": config.train.batch_size,
        "training_bytes": memory,
    }


def compared_net(config: RunConfig, label: str, family: str) -> Net:
    """Return the numbers of a net for a comparison.

    Args:
        config: config of the run.
        label: label of the net.
        family: name of the nets that differ only in depth.
    """
    example = build.example_of(config)
    layers = layers_of(unrolled(build.build_model(config)), example)
    summary = summarise(build.build_model(config), example)
    return Net(
        family=family,
        label=label,
        depth=depth_of(layers),
        parameters=summary.parameters,
        macs=summary.macs,
        field=_largest_field(layers) or 0,
    )


def _largest_field(layers: Sequence[Layer]) -> int | None:
    """Return the largest receptive field of a net's feature maps in pixels; None without feature
    maps.
    """
    fields = [layer.field.size for layer in layers if layer.field is not None and layer.field.jump]
    return max(fields, default=None)
