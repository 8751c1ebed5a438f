"""Where in a file of weights a net's arrays are: below which nesting, behind which prefix.

Training programs put a state dict under ``state_dict``, ``model`` or another key, beside the
optimizer's, and put ``module.``, ``model.`` or ``backbone.`` in front of its names. Here both are
the same: nestings are joined to the names by dots, and what stands in front of a net's own names
is its prefix.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deeper.errors import UserError
from deeper.weights.architectures import ANCHORS, head_of, no_net
from deeper.weights.torchvision_names import as_torchvision

AVERAGED = re.compile(r"(^|_)(ema|swa|averaged?)(_|$)")  # parts of names that mean averages
COUNTER = "n_averaged"  # beside the averages of torch.optim.swa_utils
DEEPEST = 4  # nestings that are looked into


@dataclass(frozen=True)
class StateDict:
    """A net's arrays in a file.

    Attributes:
        arrays: by their names behind the prefix.
        prefix: what stood in front of them, with a dot at its end; often empty.
        averaged: whether they are averages over training.
        others: how many arrays of the file stand elsewhere.
    """

    arrays: dict[str, np.ndarray]
    prefix: str
    averaged: bool
    others: int


def flattened(tree: Any) -> dict[str, np.ndarray]:
    """Return the arrays in nested mappings, by names joined with dots."""
    return dict(_arrays(tree, "", 0))


def _arrays(tree: Any, prefix: str, depth: int) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(tree, Mapping) or depth > DEEPEST:
        return
    for key, value in tree.items():
        if not isinstance(key, str):  # an optimizer numbers its states
            continue
        if isinstance(value, np.ndarray):
            yield prefix + key, value
        else:
            yield from _arrays(value, f"{prefix}{key}.", depth + 1)


def find(
    arrays: Mapping[str, np.ndarray], source: str, prefix: str | None = None, ema: bool = False
) -> StateDict:
    """Find a net's arrays among those of a file.

    Args:
        arrays: of the file, see `flattened`.
        source: the file, for messages.
        prefix: in front of the net's names, where there are several nets; None to look for it.
        ema: whether to take the averages over training, where the file has both.

    Raises:
        UserError: there is no net that we have, or there are several.
    """
    prefixes = _prefixes(arrays)
    if prefix is not None:
        ending = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
        if ending not in prefixes:
            known = ", ".join(f"prefix={one}" for one in prefixes) or no_net(arrays)
            raise UserError(f"{source}: no net stands behind prefix={prefix}. There is {known}")
        prefixes = [ending]
    elif not prefixes:
        raise UserError(f"{source}: {no_net(arrays)}")
    averages = [one for one in prefixes if _is_averaged(one, arrays)]
    if prefix is None and ema and not averages:
        raise UserError(f"{source}: ema=true, but it has no averages: leave ema out.")
    if prefix is None and averages and (ema or len(averages) < len(prefixes)):
        prefixes = [one for one in prefixes if (one in averages) == ema]
    if len(prefixes) > 1:
        raise UserError(
            f"{source} has {len(prefixes)} nets: say which with "
            f"{' or '.join(f'prefix={one}' for one in prefixes)}"
        )
    [chosen] = prefixes
    inside = {n.removeprefix(chosen): a for n, a in arrays.items() if n.startswith(chosen)}
    inside.pop(COUNTER, None)
    beside = [name for name in arrays if not name.startswith(chosen) and not name.endswith(COUNTER)]
    return StateDict(inside, chosen, chosen in averages, len(beside))


def _prefixes(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return what stands in front of each net of a file."""
    found = {
        name[: len(name) - len(anchor)]
        for name in arrays
        for anchor in ANCHORS
        for ending in (anchor, anchor.replace("features.", "features_"))
        if name == ending or name.endswith(f".{ending}")
    }
    return sorted(found)


def _is_averaged(prefix: str, arrays: Mapping[str, np.ndarray]) -> bool:
    parts = prefix.split(".")
    above = [".".join([*parts[:end], COUNTER]) for end in range(len(parts))]
    return any(AVERAGED.search(part) for part in parts) or any(name in arrays for name in above)


def renamed(state_dict: StateDict) -> dict[str, np.ndarray]:
    """Return its arrays by torchvision's names.

    A head of ``nn.Sequential(nn.Dropout(), nn.Linear())`` is the dense layer that is in it.
    """
    names = as_torchvision(state_dict.arrays)
    head = head_of(names.values())
    if head is not None:
        inside = {
            name: match
            for name, theirs in names.items()
            if (match := re.fullmatch(rf"{re.escape(head)}\.(\d+)\.(weight|bias)", theirs))
        }
        alone = f"{head}.weight" not in names.values()
        if alone and len({match[1] for match in inside.values()}) == 1:
            names |= {name: f"{head}.{match[2]}" for name, match in inside.items()}
    return {theirs: state_dict.arrays[name] for name, theirs in names.items()}
