"""``deeper see run=DIRECTORY``: sheets of what a net sees, and a page of them."""

import base64
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jinja2
import numpy as np
from omegaconf import DictConfig

from deeper.augment.pipeline import Normalise
from deeper.cli.live_display import bar
from deeper.cli.output_files import check_directory
from deeper.cli.terminal import open_console
from deeper.data.dataset import Split
from deeper.data.encoded_images import View
from deeper.data.image_files import LeftOut, picture_files, read_picture, told
from deeper.errors import UserError
from deeper.interpret import comparisons, figures
from deeper.interpret.subject import Progress, Subject
from deeper.interpret.traced_net import LOGITS
from deeper.models.initializers import initialise
from deeper.run import device, load
from deeper.run.class_names import class_names
from deeper.run.data_record import open_own_splits
from deeper.run.dataset import Splits, evaluation_view
from deeper.track.wandb_results import log_pictures

PROBED, MEASURED = 5000, 256  # images at most: a probe's features, and one batch
CAPTIONS = {
    "filters": "The first convolution's weights; grey is zero.",
    "activations": "Each image and its strongest maps, bright where they answer.",
    "field": "Above: the frame is all that the middle of a stage's maps can see. Below: how "
    "strongly it depends on each pixel (Luo et al. 2016).",
    "deconvnet": "For each stage's strongest channels the nine strongest places of the images, to "
    "the right, and their projections to pixels (Zeiler and Fergus 2013).",
    "attribution": "Which pixels a class's score comes from, by each method.",
    "maximise": "What climbs to the strongest answer, above with and below without regularisers "
    "(Yosinski et al. 2015).",
    "probes": "What a linear classifier makes of each layer (Alain and Bengio 2016).",
    "dynamics": "The values of each layer, and the loss's gradient by them, as training goes on: "
    "in every checkpoint that there is, normalised by the batch as in training.",
    "similarity": "How alike two nets' layers represent the same images (Kornblith et al. 2019).",
}
BESIDE = ("probes", "dynamics", "similarity")  # these set a second net beside the first


def run(config: DictConfig) -> None:
    """Draw the sheets that are asked for."""
    console = open_console()
    path = Path(config.run)
    chosen = _chosen(config)
    out = path / "see" if config.out is None else Path(config.out)
    check_directory(out, "out")
    device.start_jax(load.config_of(path, "run").train.cpu_kernels)
    device.close_cache()  # the layers' functions close over the weights
    with bar(console) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        subjects = [_subject(config, path, "run", tell)]
        if config.images is None:
            figures.require(subjects[0], config.n)
        if config.other is not None:
            subjects.append(_subject(config, Path(config.other), "other", tell))
            one, other = subjects
            if one.shape != other.shape:
                raise UserError(f"run and other take images of {one.shape} and {other.shape}.")
            if one.title == other.title:
                subjects[1] = replace(other, title=Path(config.other).name)
        out.mkdir(parents=True, exist_ok=True)
        sheets = {name: out / f"{name}.png" for name in chosen}
        for name, sheet in sheets.items():
            numbers = _draw(name, config, subjects, sheet)
            if numbers is not None:
                sheet.with_suffix(".json").write_text(json.dumps(numbers) + "\n", encoding="utf-8")
            console.print(f"{name} -> {sheet}", soft_wrap=True)
    page = out / "index.html"
    page.write_text(_page(subjects[0].title, sheets), encoding="utf-8", errors="backslashreplace")
    console.print(str(page), soft_wrap=True)
    if config.wandb:
        mode = log_pictures(path, sheets, out, lambda line: console.print(line, soft_wrap=True))
        if mode:
            console.print(f"{len(sheets)} sheets to Weights & Biases, {mode}")


def _chosen(config: DictConfig) -> list[str]:
    """Return the methods that are asked for."""
    wish = str(config.method)
    if wish == "all":
        needless = set() if config.other is not None else {"similarity"}
        needless |= {"probes", "dynamics"} if config.images is not None else set()
        return [name for name in CAPTIONS if name not in needless]
    if wish not in CAPTIONS:
        raise UserError(f"method={wish} is unknown; choose one of {', '.join(CAPTIONS)} or all.")
    if wish == "similarity" and config.other is None:
        raise UserError("method=similarity compares two nets: say other=DIRECTORY.")
    if wish in ("probes", "dynamics") and config.images is not None:
        raise UserError(f"method={wish} needs labels: leave images= away.")
    if wish not in BESIDE and config.other is not None:
        raise UserError(f"other={config.other} is for method={', '.join(BESIDE)}.")
    return [wish]


def _draw(name: str, config: DictConfig, subjects: Sequence[Subject], out: Path) -> Any:
    """Draw a sheet; return its numbers where it shows numbers."""
    subject, layer = subjects[0], config.layer
    n = min(config.n, len(subject.images))
    net = subject.net
    layers = net.stages if layer is None else [net.layer_with_maps(layer)]
    draw: dict[str, Callable[[], Any]] = {
        "filters": lambda: figures.filters(subject, out),
        "activations": lambda: figures.activations(subject, layer, n, out),
        "field": lambda: figures.fields(subject, n, out),
        "deconvnet": lambda: figures.deconvnet_stages(subject, layers, config.channels, out),
        "attribution": lambda: figures.attributions(subject, layer, n, out),
        "maximise": lambda: figures.maximised(subject, layer, out),
        "probes": lambda: comparisons.probes(subjects, min(config.examples, PROBED), out),
        "dynamics": lambda: comparisons.dynamics(subjects, min(config.examples, MEASURED), out),
        "similarity": lambda: comparisons.similarity(subject, subjects[-1], out),
    }
    return draw[name]()


def _subject(config: DictConfig, path: Path, key: str, progress: Progress) -> Subject:
    weights = load.open_stored(path, config.checkpoint, key, config.data.dir)
    data = weights.config.data
    normalise = Normalise(tuple(data.mean), tuple(data.std))
    subject = Subject(
        title=f"{weights.config.label} on {data.name}",
        model=weights.model,
        variables=weights.variables,
        images=np.zeros((0, *data.image_shape), np.uint8),
        labels=np.zeros(0, np.int32),
        class_names=class_names(path, weights.config),
        mean=tuple(data.mean),
        normalise=normalise,
        progress=progress,
    )
    if config.images is not None:
        images = _pictures(config, evaluation_view(data, config.crop, config.exif))
        # Nobody says what is on them: the class that is asked about is the net's own answer.
        logits = subject.net(normalise(jnp.asarray(images)), [LOGITS])[LOGITS]
        return replace(subject, images=images, labels=np.asarray(logits.argmax(-1), np.int32))
    splits = open_own_splits(path, weights.config)
    split, most = _split(splits, str(config.split)), config.examples
    states = load.states(path)
    if weights.config.init_from is None:
        seed = weights.config.seed
        states = {0: lambda: initialise(weights.model, seed, subject.shape)} | states
    return replace(
        subject,
        images=np.asarray(split.images[:most]),
        labels=np.asarray(split.labels[:most]),
        training=(splits.train.images, np.asarray(splits.train.labels)),
        states=states,
    )


def _pictures(config: DictConfig, view: View) -> np.ndarray:
    """Return the pictures of ``images=``, uint8 (N, H, W, C); what cannot be read is told of."""
    left_out: LeftOut = {}
    files = picture_files(Path(config.images), left_out)
    images, unread = [], []
    for file in files:
        try:
            images.append(read_picture(file, view))
        except UserError as error:
            unread.append(str(error))
    said = "\n".join([f"{len(unread):,} of {len(files):,} files left out:", *unread])
    if not images:
        raise UserError(said)
    for line in (told(left_out), said if unread else ""):
        if line:
            open_console(stderr=True).print(line, soft_wrap=True)
    return np.stack(images)


def _split(splits: Splits, name: str) -> Split:
    found = {"validation": splits.validation, "test": splits.test, "train": splits.train}
    split = found.get(name)
    if split is None:
        there = ", ".join(key for key, one in found.items() if one is not None)
        raise UserError(f"split={name} is not there; this run has {there}.")
    return split


def _page(title: str, sheets: dict[str, Path]) -> str:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("deeper.interpret", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return templates.get_template("see.html.j2").render(
        title=title,
        command=f"{sys.argv[0]} {shlex.join(sys.argv[1:])}",
        sheets=[
            (name.capitalize(), CAPTIONS[name], base64.b64encode(sheet.read_bytes()).decode())
            for name, sheet in sheets.items()
        ],
    )
