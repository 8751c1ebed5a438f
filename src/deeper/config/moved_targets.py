"""Present names of targets that have moved since older run directories were written.

Hashes of configs use the original names, so that a run keeps its directory when a module moves.
"""

from collections.abc import Callable, Mapping
from typing import Any

# Original module, used in hashes and older run directories -> present module.
MOVED = {
    "deeper.train.consistency": "deeper.tasks.consistency",
    "deeper.augment.ops": "deeper.augment.crops_and_colour",
    "deeper.augment.policy": "deeper.augment.policy_base",
    "deeper.augment.timm": "deeper.augment.timm_randaugment",
}
FIRST = {now: first for first, now in MOVED.items()}


def present(values: Any) -> Any:
    """Return a config with the present names of targets."""
    return _renamed(values, MOVED)


def as_hashed(values: Any) -> Any:
    """Return a config with the original names of targets, for hashing."""
    return _renamed(values, FIRST)


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    def target(name: Any) -> Any:
        if not isinstance(name, str):
            return name
        module, _, attribute = name.rpartition(".")
        return f"{names[module]}.{attribute}" if module in names else name

    return _walk(values, target)


def _walk(values: Any, target: Callable[[Any], Any]) -> Any:
    if isinstance(values, Mapping):
        return {
            key: target(value)
            if key == "_target_" and isinstance(value, str)
            else _walk(value, target)
            for key, value in values.items()
        }
    if isinstance(values, list | tuple):
        return [_walk(value, target) for value in values]
    return values
