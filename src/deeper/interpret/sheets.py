"""The sheets of `deeper see`: which there are, how each is drawn, and the page of them."""

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from deeper.errors import UserError
from deeper.interpret import comparisons, figures
from deeper.interpret.attribution import METHODS
from deeper.interpret.score_sheet import SCORED, SCORES, score
from deeper.interpret.subject import Subject

SHOWN = 6  # images, where no number is given
PROBED, MEASURED = 5000, 256  # images at most: a probe's features, and one batch
CAPTIONS = {
    "filters": "The first convolution's weights; grey is zero.",
    "activations": "Each image and its strongest maps, bright where they answer.",
    "field": "Above: the frame is all that the middle of a stage's maps can see. Below: how "
    "strongly it depends on each pixel (Luo et al. 2016).",
    "deconvnet": "For each stage's strongest channels the nine strongest places of the images, to "
    "the right, and their projections to pixels (Zeiler and Fergus 2013).",
    "attribution": "Which pixels a class's score comes from, by each method. Beside each image its "
    "name, the net's answer and the class that is asked about, with their probabilities. "
    "attribution.npz holds the maps.",
    "maximise": "What climbs to the strongest answer, above with and below without regularisers "
    "(Yosinski et al. 2015).",
    "probes": "What a linear classifier makes of each layer (Alain and Bengio 2016).",
    "dynamics": "The values of each layer, and the loss's gradient by them, as training goes on: "
    "in every checkpoint that there is, normalised by the batch as in training.",
    "similarity": "How alike two nets' layers represent the same images (Kornblith et al. 2019).",
    "scores": "How far maps of attribution can be trusted: insertion and deletion (Petsiuk et al. "
    "2018), the pointing game (Zhang et al. 2016), the sanity check (Adebayo et al. 2018).",
}


class Sheet(NamedTuple):
    """A sheet on the page.

    Attributes:
        name: of the sheet, and of its picture.
        caption: what it shows.
        path: the PNG.
        notes: lines on how it was made.
    """

    name: str
    caption: str
    path: Path
    notes: tuple[str, ...] = ()


BESIDE = ("probes", "dynamics", "similarity")  # these set a second net beside the first
OF_CLASSES = ("attribution", "maximise")


def chosen_sheets(
    method: str,
    *,
    other: str | None,
    images: str | None,
    classes: Sequence[Any] | None = None,
    scores: Sequence[str] = (),
) -> list[str]:
    """Return the names of the sheets that are asked for.

    Args:
        method: a key of `CAPTIONS`, or all that the net or nets and their images allow.
        other: a second net; None if there is none.
        images: pictures without labels in the place of a split; None for the split.
        classes: that are asked about; None where none are chosen.
        scores: of attribution, in the place of sheets.

    Raises:
        UserError: there is no such sheet, it takes a second net or labels, or no classes.
    """
    if scores and (method != "all" or other is not None or classes is not None):
        raise UserError(
            "score= measures methods of attribution= on one net, for its own answers: leave "
            "method=, other= and classes= away."
        )
    if scores:
        return ["scores"]
    if method == "all":
        needless = {"scores"} | (set() if other is not None else {"similarity"})
        needless |= {"probes", "dynamics"} if images is not None else set()
        return [name for name in CAPTIONS if name not in needless]
    known = [name for name in CAPTIONS if name != "scores"]
    if method not in known:
        raise UserError(f"method={method} is unknown; choose one of {', '.join(known)} or all.")
    if method == "similarity" and other is None:
        raise UserError("method=similarity compares two nets: say other=DIRECTORY.")
    if method in ("probes", "dynamics") and images is not None:
        raise UserError(f"method={method} needs labels: leave images= away.")
    if method not in BESIDE and other is not None:
        raise UserError(f"other={other} is for method={', '.join(BESIDE)}.")
    if method not in OF_CLASSES and classes is not None:
        raise UserError(f"classes= is for method={', '.join(OF_CLASSES)}.")
    return [method]


def draw_sheet(
    name: str,
    subjects: Sequence[Subject],
    out: Path,
    *,
    layer: str | None = None,
    n: int | None = None,
    channels: int = 5,
    examples: int = PROBED,
    methods: Sequence[str] = (*METHODS,),
    classes: Sequence[int] | None = None,
    scores: Sequence[str] = SCORES,
) -> tuple[str, ...]:
    """Draw a sheet; where it shows numbers, write them to a JSON file beside it.

    Args:
        name: a key of `CAPTIONS`.
        subjects: a net, and for those of `BESIDE` perhaps a second one.
        out: the PNG.
        layer: a stage or a layer; by default all stages, the last one, or the classes.
        n: images that are shown, by default 6; or scored, by default 32.
        channels: of each layer that deconvnet shows.
        examples: that probes and dynamics measure, at most; they have a limit of their own.
        methods: of attribution.
        classes: that attribution and maximise show; by default those that the images are of.
        scores: of attribution.

    Returns:
        Lines on how it was made, or a table of its numbers.
    """
    subject = subjects[0]
    if name == "scores":
        found = score(subject, methods=methods, scores=scores, n=n or SCORED, layer=layer)
        found.draw(out)
        out.with_suffix(".json").write_text(json.dumps(found.plain()) + "\n", encoding="utf-8")
        return (found.table(),)
    n = min(n or SHOWN, len(subject.images))
    if name == "attribution":
        return figures.attributions(subject, n, out, methods=methods, layer=layer, classes=classes)
    net = subject.net
    layers = net.stages if layer is None else [net.layer_with_maps(layer)]
    draw: dict[str, Callable[[], Any]] = {
        "filters": lambda: figures.filters(subject, out),
        "activations": lambda: figures.activations(subject, layer, n, out),
        "field": lambda: figures.fields(subject, n, out),
        "deconvnet": lambda: figures.deconvnet_stages(subject, layers, channels, out),
        "maximise": lambda: figures.maximised(subject, layer, out, classes),
        "probes": lambda: comparisons.probes(subjects, min(examples, PROBED), out),
        "dynamics": lambda: comparisons.dynamics(subjects, min(examples, MEASURED), out),
        "similarity": lambda: comparisons.similarity(subject, subjects[-1], out),
    }
    numbers = draw[name]()
    if numbers is not None:
        out.with_suffix(".json").write_text(json.dumps(numbers) + "\n", encoding="utf-8")
    return ()


def page_of(title: str, sheets: Sequence[Sheet], command: str) -> str:
    """Return a page of HTML with the sheets in it.

    Args:
        title: of the page.
        sheets: in their order.
        command: that the page says it was made by.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("deeper.interpret", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return templates.get_template("see.html.j2").render(
        title=title,
        command=command,
        sheets=[
            (
                sheet.name.capitalize().replace("_", " "),
                sheet.caption,
                base64.b64encode(sheet.path.read_bytes()).decode(),
            )
            for sheet in sheets
        ],
    )
