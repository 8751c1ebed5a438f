"""Keys that a command accepts and has no use for, which whoever typed them did not expect."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deeper.errors import UserError

# Verbs to which every key of a run's config may matter.
OF_A_RUN = ("train", "search", "report", "inspect", "weights", "doctor")


@dataclass(frozen=True)
class Part:
    """Keys that matter to some uses of a command alone.

    Attributes:
        where: told the command's config and the keys that were typed; whether this is such a use.
        words: what the use is.
        keys: the keys; where there are none, all but ``others``.
        others: see ``keys``.
    """

    where: Callable[[Mapping[str, Any], Collection[str]], bool]
    words: str
    keys: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def has(self, key: str) -> bool:
        """Return whether a key is one of these."""
        return key in self.keys if self.keys else key not in self.others


PARTS: dict[str, tuple[Part, ...]] = {
    "sweep": (
        Part(
            lambda keys, _: keys["action"] == "status", "`deeper sweep status`", ("all", "format")
        ),
        Part(
            lambda keys, _: keys["action"] == "resume",
            "`deeper sweep resume`",
            ("code", "jobs", "launch"),
        ),
    ),
    "search": (
        Part(lambda keys, _: keys["action"] == "finish", "`deeper search finish`", ("trial",)),
        # The command of a search with `status` in front says how far it is.
        Part(
            lambda keys, _: keys["action"] in ("run", "status"),
            "`deeper search run`",
            ("trials", "readme"),
        ),
    ),
    "predict": (Part(lambda keys, _: keys["images"] is not None, "images=PATH", ("crop", "exif")),),
    "see": (Part(lambda keys, _: keys["images"] is not None, "images=PATH", ("crop", "exif")),),
    "features": (Part(lambda keys, _: keys["examples"] is not None, "examples=N", ("draw",)),),
    "inspect": (
        Part(
            lambda keys, typed: bool(keys["compare"]) or "augment" in typed,
            "compare=[...] or augment=NAME",
            ("out",),
        ),
        Part(lambda _, typed: "augment" in typed, "augment=NAME", ("sheet",)),
        Part(
            lambda keys, typed: bool(keys["compare"]) or "augment" not in typed,
            "tables, and augment=NAME draws",
            ("format",),
        ),
    ),
    "train": (Part(lambda *_: False, "sweeps, `deeper train -m`,", ("code",)),),
    "weights": (
        Part(
            lambda keys, _: keys["import"] is not None,
            "import=FILE",
            others=("import", "run", "checkpoint", "card", "push", "names", "out", "train"),
        ),
        Part(
            lambda keys, _: keys["run"] is not None, "run=DIRECTORY", ("checkpoint", "card", "push")
        ),
    ),
    "convolution": (
        Part(
            lambda keys, _: keys["kind"] != "pool",
            "layers with weights, and pooling has none",
            ("channels", "groups", "bias"),
        ),
    ),
    "doctor": (
        Part(
            lambda keys, _: keys["compile"] is not None,
            "compile=h200 or v5e",
            others=("compile", "data", "runs"),
        ),
    ),
}


def refuse_unused(
    verb: str, typed: Sequence[str], config: Mapping[str, Any], used: Collection[str]
) -> None:
    """Refuse keys that change nothing of what a command does.

    Args:
        verb: of the command, as its file in ``conf/``.
        typed: the overrides that the user gave.
        config: of the command.
        used: its own keys, and the groups that it reads.

    Raises:
        UserError: names the override.
    """
    keys = [re.split(r"[=.@/]", word.lstrip("+~"), maxsplit=1)[0] for word in typed]
    for word, key in zip(typed, keys, strict=True):
        for part in PARTS.get(verb, ()):
            if part.has(key) and not part.where(config, keys):
                raise UserError(f"{word} has a part with {part.words} alone: leave it out.")
        if verb not in OF_A_RUN and key not in used:
            raise UserError(
                f"{word} has no part in `deeper {verb}`: leave it out. `deeper {verb} --help` has "
                "the keys that have one."
            )
