"""A net as the Hugging Face Hub takes it: weights, timm's ``config.json``, and a model card.

Everything in the card is from the run directory: what the data were, how the numbers were measured,
their interval where there are other seeds, and the command that makes them again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeper.config.identity import config_hash
from deeper.errors import UserError
from deeper.plotting import COLOURS, STYLE
from deeper.record.atomic_files import read_json, to_json
from deeper.record.schema import EVALUATION, RunRecord, read_config, read_run
from deeper.run import load, net_record
from deeper.run.dataset import require_images
from deeper.run.export import arrays_of, metadata_of
from deeper.run.net_record import NetRecord
from deeper.study.compare import compare
from deeper.study.curves import mean_curve
from deeper.weights import export, timm_config, torchvision, weight_files
from deeper.weights.architectures import architecture_of

WEIGHTS, CARD, CURVE = weight_files.IN_REPOSITORIES[0], "README.md", "curve.png"
METRICS = {"error": "top-1 error (%)", "error_top5": "top-5 error (%)", "loss": "cross-entropy"}


@dataclass(frozen=True)
class Written:
    """A folder that the Hub takes.

    Attributes:
        files: their names.
        step: of the checkpoint.
        architecture: as ``config.json`` calls it.
        by_timm: whether timm makes that net and loads the weights.
    """

    files: tuple[str, ...]
    step: int
    architecture: str
    by_timm: bool


def write_card(
    path: Path, out: Path, *, checkpoint: str | int = "last", repository: str | None = None
) -> Written:
    """Write a run's net with its card into a folder.

    Args:
        path: the run directory, or one of imported weights.
        out: the folder, which is made.
        checkpoint: last, best or a step.
        repository: OWNER/NAME on the Hub, for the lines that load it.

    Raises:
        UserError: there is no such checkpoint, the run's data are a user's own, or the net has
            layers that are not trained.
    """
    of_run = load.open_stored(path, checkpoint, "run")
    require_images(of_run.config.data, "deeper weights card=true")
    record = net_record.read(path, of_run.config)
    net_record.require_trained_head(record, path)
    name, by_timm = _architecture(of_run, record)
    names = "timm" if by_timm else "torchvision" if name else "deeper"
    out.mkdir(parents=True, exist_ok=True)
    metadata = export.as_strings(metadata_of(of_run, record)) | {"names": names}
    weight_files.write(out / WEIGHTS, arrays_of(of_run, names), metadata)
    name = name or record.label
    channels = record.preprocessing["image_shape"][2]
    arguments = {"in_chans": channels} if by_timm and channels != 3 else None
    config = timm_config.written(
        name, record.preprocessing, record.class_names, record.licence, arguments
    )
    (out / timm_config.FILE).write_bytes(to_json(config, indent=2))
    run = read_run(path)
    files = [WEIGHTS, timm_config.FILE, CARD]
    if _draw_curve(run, out / CURVE):
        files.append(CURVE)
    text = _card(path, run, record, of_run.step, name, by_timm, CURVE in files, repository)
    (out / CARD).write_text(text, encoding="utf-8")
    return Written(tuple(files), of_run.step, name, by_timm)


def push(folder: Path, repository: str) -> str:
    """Upload a folder to a model repository of the Hub, which is made; return its address.

    Args:
        folder: from `write_card`.
        repository: OWNER/NAME.

    Raises:
        UserError: the extra ``hub`` is not installed, or the Hub refuses.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise UserError(f"push={repository} needs the extra hub: run scripts/setup hub.") from error
    api = huggingface_hub.HfApi(library_name="deeper")
    try:
        api.create_repo(repository, exist_ok=True)
        done = api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload by deeper"
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"push={repository}: {reason}. Is HF_TOKEN set, or `hf auth login` done?"
        ) from error
    return str(done.commit_url)


def _architecture(of_run: load.Stored, record: NetRecord) -> tuple[str | None, bool]:
    """Return the name that torchvision or timm has for a net, if any; whether timm has it."""
    shape = of_run.config.data.image_shape
    try:
        told = architecture_of(torchvision.state_dict_shapes(of_run.model, shape))
    except UserError:
        return None, False
    hidden = of_run.config.model.get("hidden")
    as_published = hidden in (None, 4096) and told.pool_size in (None, 7)
    if as_published and (timm := told.timm or told.name) in timm_config.NETS:
        return timm, True
    return told.name, False


# --- the card ------------------------------------------------------------------------------------


def _card(
    path: Path,
    run: RunRecord,
    record: NetRecord,
    step: int,
    name: str,
    by_timm: bool,
    curve: bool,
    repository: str | None,
) -> str:
    library = "timm" if by_timm else "deeper"
    head: dict[str, Any] = {
        "library_name": library,
        "pipeline_tag": "image-classification",
        "tags": sorted({"image-classification", "deeper", library}),
    }
    if record.licence:
        head["license"] = record.licence
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# {record.label} on {record.data}",
        *(["![error over training](curve.png)"] if curve else []),
        "## Numbers\n\n" + _numbers(path, run, record, step),
        "## Data\n\n" + _data(run, record),
        "## Training\n\n" + _training(run, record, step),
        "## Images\n\n" + _shown(record.preprocessing),
        "## Loading\n\n" + _loading(name, by_timm, repository),
    ]
    return "\n\n".join(parts) + "\n"


def _numbers(path: Path, run: RunRecord, record: NetRecord, step: int) -> str:
    """Return a table of the test split's numbers by protocol, with intervals over seeds."""
    rows = [("protocol", "metric", "value", "over seeds"), (":---", ":---", "---:", ":---")]
    for evaluation in _evaluations(path, run, step):
        for metric, words in METRICS.items():
            value = evaluation.get(f"test/{metric}")
            if value is not None:
                same = _over_seeds(path, run, f"test/{metric}") if evaluation["own"] else ""
                rows.append((str(evaluation["words"]), words, f"{value:.4g}", same))
    if len(rows) == 2:
        return "These weights were not evaluated here."
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _evaluations(path: Path, run: RunRecord, step: int) -> Iterable[Mapping[str, Any]]:
    """Yield the numbers of a checkpoint, each with how it was measured."""
    if run.metrics and run.result.get("steps") == step:
        yield {"own": True, "words": "every test image once, as shown below", **run.metrics}
    for file in sorted(path.glob(EVALUATION.format("*"))):
        found = read_json(file) or {}
        if found.get("step") == step:
            yield {"own": False, "words": found.get("protocol_in_words", file.stem), **found}


def _over_seeds(path: Path, run: RunRecord, metric: str) -> str:
    """Return the mean and interval over runs that differ in their seed alone; empty without any."""
    mine = _hash_of(run.config)
    same = []
    for place in sorted(path.resolve().parent.iterdir()):
        config = read_config(place) if place.is_dir() else None
        if config is None or _hash_of({**config, "seed": run.seed}) != mine:
            continue
        other = read_run(place)
        if other.status == "finished" and other.number(metric) is not None:
            same.append(place)
    if len(same) < 2:
        return ""
    _, count, mean, interval = compare(same, metric).table.rows[0]
    return f"{mean}, {interval}, {count} seeds"


def _hash_of(config: Mapping[str, Any]) -> str:
    return config_hash({key: value for key, value in config.items() if key != "config_hash"})


def _data(run: RunRecord, record: NetRecord) -> str:
    about = [f"- Data set: {record.data}"]
    if version := run.data.get("version"):
        about.append(f"- Version: {version}")
    if splits := run.data.get("splits"):
        counts = ", ".join(f"{count:,} {name}" for name, count in splits.items())
        about.append(f"- Examples: {counts}")
    if fingerprint := run.data.get("fingerprint"):
        about.append(f"- Fingerprint of images and labels (SHA-256): {fingerprint[:16]}")
    names = ", ".join(list(record.class_names)[:10])
    more = " ..." * (len(record.class_names) > 10)
    return "\n".join([*about, f"- Classes: {len(record.class_names)} ({names}{more})"])


def _training(run: RunRecord, record: NetRecord, step: int) -> str:
    lines = []
    if record.source is not None:
        lines.append(f"- Imported from {record.source}, SHA-256 {str(record.sha256)[:16]}")
    else:
        config, result = run.config, run.result
        lines.append(f"- Checkpoint: step {step} of {result.get('steps', 'an unfinished run')}")
        recipe = config.get("recipe") or {}
        if recipe.get("name"):
            lines.append(f"- Recipe: {recipe['name']}")
        optimizer = dict(config.get("optimizer") or {})
        target = str(optimizer.pop("_target_", "")).rpartition(".")[2]
        listed = ", ".join(f"{key} {value}" for key, value in optimizer.items())
        lines.append(f"- Optimizer: {target} ({listed})")
        train = config.get("train") or {}
        epochs = result.get("epochs")
        length = "" if epochs is None else f"; epochs: {epochs:.4g}"
        lines.append(f"- Batch: {train.get('batch_size')}{length}")
        if record.init_from:
            lines.append(f"- Began from: {record.init_from}")
        if command := run.result.get("command") or run.environment.get("command"):
            lines.append(f"- Command: `{command}`")
        elif run.words:
            lines.append(f"- Command: `deeper train {' '.join(run.words)}`")
    if record.revision:
        lines.append(f"- {'Commit' if record.source is None else 'Revision'}: {record.revision}")
    return "\n".join(lines)


def _shown(shown: Mapping[str, Any]) -> str:
    height, width, channels = shown["image_shape"]
    words = f"{height}x{width} pixels, {'grey' if channels == 1 else 'in colour'}"
    if shown.get("crop") is not None:
        words = (
            f"Shorter side {shown['shorter_side']} pixels ({shown.get('interpolation', 'bilinear')}"
            f"{', antialiased' * bool(shown.get('antialias'))}), of that the middle {words}"
        )
    return f"{words}; values from 0 to 1, mean {shown['mean']}, std {shown['std']}."


def _loading(name: str, by_timm: bool, repository: str | None) -> str:
    place = repository or "OWNER/NAME"
    lines = [f"deeper weights import=hf:{place} out=DIRECTORY"]
    text = f"```\n{lines[0]}\n```"
    if by_timm:
        text += (
            f'\n\n```python\ntimm.create_model("hf-hub:{place}", pretrained=True)  # {name}\n```'
        )
    return text


def _draw_curve(run: RunRecord, out: Path) -> bool:
    """Draw training and validation error by epoch; return whether there is anything to draw."""
    curves = {metric: mean_curve([run], f"{metric}/error") for metric in ("train", "validation")}
    if not any(len(epochs) > 1 for epochs, _ in curves.values()):
        return False
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": "agg"}):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for (metric, (epochs, values)), colour in zip(curves.items(), COLOURS, strict=False):
            if len(epochs):
                axes.plot(epochs, values, color=colour, label=metric)
        axes.set_xlabel("epoch")
        axes.set_ylabel("error (%)")
        axes.set_ylim(bottom=0)
        axes.legend()
        figure.savefig(out, metadata={"Software": None})
    return True
