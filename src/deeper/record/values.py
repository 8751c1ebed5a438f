"""A canonical spelling of values, so that 0.10, 1e-1 and 0.1 compare as equal."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

# Numbers in Hydra's overrides; YAML 1.1 reads 5e-2 as a string and 007 as seven.
INTEGER = re.compile(r"[-+]?(0|[1-9](_?\d)*)")
FLOAT = re.compile(r"[-+]?(\d(_?\d)*\.(\d(_?\d)*)?|\.\d(_?\d)*|\d(_?\d)*(?=[eE]))([eE][-+]?\d+)?")
WORDS = {"true": "true", "false": "false", "null": "null"}


def spelled(value: Any) -> str:
    """Return the canonical spelling of a value: the same for ``0.10``, ``1e-1`` and the number 0.1.

    Args:
        value: value of a config, or the text of an override, which may be a list such as ``[5e-2,
            0.1]``.
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return _number(float(value)) if isinstance(value, float) else str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {spelled(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(spelled, value)) + "]"
    return _of_text(str(value).strip())


def _of_text(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]  # a quoted value is a string
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    if INTEGER.fullmatch(text):
        return str(int(text))
    if FLOAT.fullmatch(text):
        return _number(float(text))
    if text[:1] in ("[", "{"):
        try:
            inner = yaml.safe_load(text)
        except yaml.YAMLError:
            return text
        return spelled(inner) if isinstance(inner, list | dict) else text
    return text


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def of_overrides(overrides: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Return the values that overrides set: key -> value in canonical spelling."""
    pairs = (word.lstrip("+").split("=", 1) for word in overrides if "=" in word)
    return {key: spelled(value) for key, value in pairs}
