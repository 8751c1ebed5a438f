"""Whether a study's runs are comparable: the same data, code, versions, machine and recipe."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from deeper.config.identity import changes_no_number
from deeper.record.schema import RunRecord, nested
from deeper.study.read_runs import Collection

SAME_EVERYWHERE = (
    ("git_commit", "commits of the code"),
    ("deeper", "versions of deeper"),
    ("jax", "versions of JAX"),
    ("jaxlib", "versions of jaxlib"),
    ("platform", "platforms"),
    ("device_kind", "kinds of device"),
    ("cpu", "processors"),
    ("xla_flags", "XLA_FLAGS"),
    ("jax_variables", "variables of JAX in the environment"),
)
# On a CPU, sums are split over the cores: results depend on the number of cores in the last bits.
ON_A_CPU = (("cores", "numbers of cores"),)
PER_RUN = ("seed", "config_hash")  # differ between all runs


def warnings(collection: Collection) -> list[str]:
    """Return a sentence for each difference that makes the finished runs less comparable."""
    runs = collection.finished
    out = list(_data(collection))
    on_a_cpu = all(run.environment.get("platform") == "cpu" for run in runs)
    for key, name in (*SAME_EVERYWHERE, *(ON_A_CPU if on_a_cpu else ())):
        seen = [_through_legs(run, key) for run in runs]
        if len({value for values in seen for value in values}) > 1:
            counts = Counter(", then ".join(values) for values in seen)
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
        listed = "; ".join(f"{run.path.name}: {run.note}" for run in superseded)
        out.append(
            "Of several runs of one arm and seed, which differ in their configs, the newest one "
            f"counts, whatever its status. Left out are {listed}."
        )
    return out


def _through_legs(run: RunRecord, key: str) -> list[str]:
    """Return the distinct values of a key in a run's environments; a resumed run has several."""
    legs = [*(run.environment.get("earlier") or []), run.environment]
    values = [nested(leg, key) for leg in legs]
    known = [value for value in values if value is not None] or [None]
    return list(dict.fromkeys(str(value) for value in known))


def _data(collection: Collection) -> Iterable[str]:
    """Yield a sentence for each data set whose content differs between runs."""
    seen: dict[str, Counter[str]] = {}
    for run in collection.finished:
        if "fingerprint" in run.data:
            counts = seen.setdefault(str(run.data.get("name")), Counter())
            counts[str(run.data["fingerprint"])[:12]] += 1
    for name, counts in sorted(seen.items()):
        if len(counts) > 1:
            yield f"The runs saw different data under the name {name}: {_counted(counts)}."


def _recipes(collection: Collection) -> Iterable[str]:
    """Yield a sentence for each setting that differs between runs although no arm varies it.

    A setting inside a swept group, such as `model.width`, is compared within each value of the
    group. All settings are compared within each value of `arm`, which may change any of them. A
    setting that equals the seed, such as `data.draw`, or that names a run of the same seed, such as
    `init_from`, may differ.
    """
    arms = collection.study.arms
    seen: dict[str, dict[Any, Counter[str]]] = {}
    independent: set[str] = set()  # keys whose values do not follow the seed
    for run in collection.finished:
        for key, value in _flat(run.config):
            if key in arms or key in PER_RUN or changes_no_number(key):
                continue
            if value != run.seed:
                independent.add(key)
            groups = [arm for arm in arms if arm == "arm" or f"{key}.".startswith(f"{arm}.")]
            group = tuple(str(run.setting(name)) for name in groups)
            seen.setdefault(key, {}).setdefault(group, Counter())[
                str(value).replace(f"-s{run.seed}-", "-s*-")
            ] += 1
    for key, by_group in sorted((key, seen[key]) for key in independent):
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
