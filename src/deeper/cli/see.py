"""``deeper see run=DIRECTORY``: sheets of what a net's layers see, and a page of them."""

import base64
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from omegaconf import DictConfig
from rich.console import Console

from deeper.augment.ops import Normalise
from deeper.cli import build, device, stored
from deeper.cli.inspect import unrolled
from deeper.cli.progress import bar
from deeper.data.sources import Split
from deeper.errors import UserError
from deeper.inspect import methods
from deeper.inspect.methods import Subject

CAPTIONS = {
    "filters": "The first convolution's weights; grey is zero.",
    "activations": "Each image and its strongest maps, bright where they answer.",
    "field": "Above: the frame is all that the middle of a stage's maps can see. Below: how "
    "strongly it depends on each pixel (Luo et al. 2016).",
    "deconvnet": "For each stage's strongest channels the nine strongest places of the images, to "
    "the right, and their projections to pixels (Zeiler and Fergus 2013).",
    "attribution": "Which pixels the score of the true class comes from, by each method.",
    "maximise": "What climbs to the strongest answer, above with and below without regularisers "
    "(Yosinski et al. 2015).",
    "similarity": "How alike two nets' layers represent the same images (Kornblith et al. 2019).",
}


def run(config: DictConfig) -> None:
    """Draw the sheets that are asked for."""
    console = Console(width=100, highlight=False)
    wish, known = str(config.method), list(CAPTIONS)
    if wish not in (*known, "all"):
        raise UserError(f"method={wish} is unknown; choose one of {', '.join(known)} or all.")
    if wish == "similarity" and config.other is None:
        raise UserError("method=similarity compares two nets: say other=DIRECTORY.")
    chosen = [wish]
    if wish == "all":
        chosen = known if config.other is not None else known[:-1]
    path = Path(config.run)
    out = path / "see" if config.out is None else Path(config.out)
    device.start_jax(stored.config_of(path, "run").train.cpu_kernels)
    with bar(console) as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total, note="")
            progress.update(tasks[what], completed=done, total=total)

        subject = _subject(config, path, "run", tell)
        methods.require(subject, config.n)
        other = (
            None if config.other is None else _subject(config, Path(config.other), "other", tell)
        )
        out.mkdir(parents=True, exist_ok=True)
        sheets = {name: out / f"{name}.png" for name in chosen}
        for name, sheet in sheets.items():
            _draw(name, config, subject, other, sheet)
            console.print(f"{name} -> {sheet}", soft_wrap=True)
    page = out / "index.html"
    page.write_text(_page(subject.title, sheets), encoding="utf-8")
    console.print(str(page), soft_wrap=True)


def _draw(
    name: str, config: DictConfig, subject: Subject, other: Subject | None, out: Path
) -> None:
    layer, n = config.layer, config.n
    if name == "deconvnet":
        net = subject.net
        layers = methods.stages(net) if layer is None else [methods.layer_of(net, layer)]
        methods.deconvnet_stages(subject, layers, config.channels, out)
        return
    if name == "similarity":
        assert other is not None
        methods.similarity(subject, other, out)
        return
    draw: dict[str, Callable[[], None]] = {
        "filters": lambda: methods.filters(subject, out),
        "activations": lambda: methods.activations(subject, layer, n, out),
        "field": lambda: methods.field(subject, n, out),
        "attribution": lambda: methods.attributions(subject, layer, n, out),
        "maximise": lambda: methods.maximised(subject, layer, out),
    }
    draw[name]()


def _subject(config: DictConfig, path: Path, key: str, progress: methods.Progress) -> Subject:
    weights = stored.open_stored(path, config.checkpoint, key)
    data = weights.config.data
    split = _split(weights.config, str(config.split))
    return Subject(
        title=f"{weights.config.label} on {data.name}",
        model=unrolled(weights.model),
        variables=weights.variables,
        images=np.asarray(split.images[: config.images]),
        labels=np.asarray(split.labels[: config.images]),
        class_names=stored.class_names(path, weights.config),
        mean=tuple(data.mean),
        normalise=Normalise(tuple(data.mean), tuple(data.std)),
        progress=progress,
    )


def _split(config: DictConfig, name: str) -> Split:
    splits = build.open_splits(config)
    found = {"validation": splits.validation, "test": splits.test, "train": splits.train}
    split = found.get(name)
    if split is None:
        there = ", ".join(key for key, one in found.items() if one is not None)
        raise UserError(f"split={name} is not there; this run has {there}.")
    return split


def _page(title: str, sheets: dict[str, Path]) -> str:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("deeper.inspect", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return templates.get_template("see.html.j2").render(
        title=title,
        command=shlex.join(sys.argv),
        sheets=[
            (name.capitalize(), CAPTIONS[name], base64.b64encode(sheet.read_bytes()).decode())
            for name, sheet in sheets.items()
        ],
    )
