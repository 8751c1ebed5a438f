"""``config.json`` as timm writes it beside weights on the Hugging Face Hub.

See ``save_config_for_hf`` and ``resolve_data_config`` in timm: the net's name, its number of
classes and their names, and under ``pretrained_cfg`` how images are shown to it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from deeper.data.crops import FILTERS
from deeper.errors import UserError

FILE = "config.json"
# Of the nets that deeper has, those that timm has too, by timm's names.
NETS = (
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *("resnet18", "resnet34", "resnet26", "resnet50", "resnet101", "resnet152", "resnet200"),
    *("resnet18d", "resnet34d", "resnet26d", "resnet50d", "resnet101d", "resnet152d", "resnet200d"),
    *("resnet10t", "resnet14t", "resnet26t", "resnet50t"),
    *("resnet50c", "resnet101c", "resnet152c"),
    *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
    *("resnext50d_32x4d", "wide_resnet50_2", "wide_resnet101_2"),
    *("seresnet18", "seresnet34", "seresnet50", "seresnet50t", "seresnet101", "seresnet152"),
    *("seresnet152d", "seresnext50_32x4d", "seresnext101_32x4d", "seresnext101_32x8d"),
    *("densenet121", "densenet161", "densenet169", "densenet201"),
    *("mobilenetv2_035", "mobilenetv2_050", "mobilenetv2_075", "mobilenetv2_100"),
    *("mobilenetv2_140",),
    *("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    *("regnetx_004_tv", "regnetx_008", "regnetx_016", "regnetx_032", "regnetx_080"),
    *("regnetx_160", "regnetx_320"),
    *("regnety_004", "regnety_008_tv", "regnety_016", "regnety_032", "regnety_080_tv"),
    *("regnety_160", "regnety_320", "inception_v3"),
)
DEFAULT_CROP = 0.875  # timm's, where a config has none


def is_config(values: Any) -> bool:
    """Whether a JSON file is such a config."""
    return isinstance(values, Mapping) and ("pretrained_cfg" in values or "architecture" in values)


def preprocessing_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return how images are shown to a net, by the keys of a ``data`` section.

    Args:
        values: of a ``config.json``.

    Raises:
        UserError: it says what deeper does not do.
    """
    shown = values.get("pretrained_cfg") or values
    data: dict[str, Any] = {}
    size = shown.get("input_size")
    if size:
        channels, height, width = (int(side) for side in size)
        data["image_shape"] = [height, width, channels]
        # timm truncates; a float such as 224 / 0.875 may be just under a whole number.
        share = float(shown.get("crop_pct") or DEFAULT_CROP)
        data["shorter_side"] = max(math.floor(min(height, width) / share + 1e-6), 1)
        mode = shown.get("crop_mode") or "center"
        if mode != "center" and share != 1.0:
            raise UserError(
                f"{FILE} says crop_mode={mode}, which deeper does not do: its crop is the center."
            )
    if interpolation := shown.get("interpolation"):
        if interpolation not in FILTERS:
            raise UserError(
                f"{FILE} says interpolation={interpolation}; deeper has {', '.join(FILTERS)}."
            )
        data["interpolation"] = interpolation
    for name in ("mean", "std"):
        if shown.get(name):
            data[name] = [float(value) for value in shown[name]]
    return data


def names_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes; empty where there are none."""
    names = values.get("label_names") or (values.get("pretrained_cfg") or {}).get("label_names")
    if isinstance(names, Mapping):  # of a model of transformers: number -> name
        names = [names[key] for key in sorted(names, key=int)]
    described = values.get("label_descriptions") or {}
    return tuple(str(described.get(name, name)) for name in names or ())


def licence_of(values: Mapping[str, Any]) -> str | None:
    """Return the licence, where it is said."""
    return (values.get("pretrained_cfg") or {}).get("license")


def written(
    architecture: str,
    preprocessing: Mapping[str, Any],
    class_names: Sequence[str],
    licence: str | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what ``config.json`` holds of a net.

    Args:
        architecture: timm's name, or ours where timm has no such net.
        preprocessing: by the keys of a ``data`` section.
        class_names: in the order of the logits.
        licence: of the weights, if known.
        model_args: arguments that timm makes the net with.
    """
    height, width, channels = preprocessing["image_shape"]
    shorter = preprocessing.get("shorter_side", min(height, width))
    shown = {
        "input_size": [channels, height, width],
        "fixed_input_size": False,
        "interpolation": preprocessing.get("interpolation", "bilinear"),
        "crop_pct": min(height, width) / shorter,
        "crop_mode": "center",
        "mean": list(preprocessing["mean"]),
        "std": list(preprocessing["std"]),
        "num_classes": len(class_names),
        **({} if licence is None else {"license": licence}),
    }
    return {
        "architecture": architecture,
        "num_classes": len(class_names),
        "label_names": list(class_names),
        **({"model_args": dict(model_args)} if model_args else {}),
        "pretrained_cfg": shown,
    }
