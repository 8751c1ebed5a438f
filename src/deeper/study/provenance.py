"""Whether a study's runs are comparable: the same code, versions, machine and recipe."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from deeper.config.identity import CHANGES_NO_NUMBER
from deeper.study.collect import Collection, nested

SAME_EVERYWHERE = (
    ("git_commit", "commits of the code"),
    ("deeper", "versions of deeper"),
    ("jax", "versions of JAX"),
    ("jaxlib", "versions of jaxlib"),
    ("platform", "platforms"),
    ("device_kind", "kinds of device"),
    ("cpu", "processors"),
)
INDIFFERENT = (*CHANGES_NO_NUMBER, "seed", "config_hash", "hydra")


def warnings(collection: Collection) -> list[str]:
    """Return, each as a sentence, what makes the finished runs less than comparable."""
    runs = collection.finished
    out = []
    for key, name in SAME_EVERYWHERE:
        counts = Counter(str(nested(run.environment, key)) for run in runs)
        if len(counts) > 1:
            out.append(f"The runs come from different {name}: {_counted(counts)}.")
    dirty = sum(bool(run.environment.get("git_dirty")) for run in runs)
    if dirty:
        out.append(
            f"{dirty} of {len(runs)} runs were made with uncommitted changes; the diff in "
            "their environment.json shows them."
        )
    out += _recipes(collection)
    superseded = [run for run in collection.runs if run.status == "superseded"]
    if superseded:
        out.append(
            f"{len(superseded)} older runs are left out, since a newer run of the same net and "
            "seed has another config: " + ", ".join(run.path.name for run in superseded) + "."
        )
    return out


def _recipes(collection: Collection) -> Iterable[str]:
    """Name the settings that differ between runs although no arm of the study is about them.

    A setting inside a swept group, say `model.width`, is compared within each value of the group;
    all settings are within each value of `arm`, which may change any. One that is the seed, say
    `data.draw`, or names a run of it, say `init_from`, may differ.
    """
    arms = collection.study.arms
    seen: dict[str, dict[Any, Counter[str]]] = {}
    own: set[str] = set()  # keys whose value is not the run's seed
    for run in collection.finished:
        for key, value in _flat(run.config):
            if key in arms or any(f"{key}.".startswith(f"{name}.") for name in INDIFFERENT):
                continue
            if value != run.seed:
                own.add(key)
            groups = [arm for arm in arms if arm == "arm" or f"{key}.".startswith(f"{arm}.")]
            group = tuple(str(run.setting(name)) for name in groups)
            seen.setdefault(key, {}).setdefault(group, Counter())[
                str(value).replace(f"-s{run.seed}-", "-s*-")
            ] += 1
    for key, by_group in sorted((key, seen[key]) for key in own):
        for counts in by_group.values():
            if len(counts) > 1:
                yield f"The runs differ in {key}, which no arm varies: {_counted(counts)}."
                break


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{value[:40]} ({n})" for value, n in counts.most_common())
