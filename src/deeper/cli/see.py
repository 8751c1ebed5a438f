"""``deeper see run=DIRECTORY``: draws visualisations of a net as sheets, and a page of them."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from deeper.cli.inputs import given_inputs
from deeper.cli.output_files import check_directory
from deeper.config.data_sections import OwnDataset
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.interpret import figures
from deeper.interpret.attribution import METHODS, choose, class_numbers
from deeper.interpret.score_sheet import SCORES
from deeper.interpret.sheets import CAPTIONS, Sheet, chosen_sheets, draw_sheet, page_of
from deeper.progress import Progress
from deeper.run import detect, device, load, see_detections, see_sequences
from deeper.run.subject import subject_of
from deeper.track.wandb_results import log_pictures

Print = Callable[[Sheet], None]
# Keys without a meaning for sequences, and for detectors.
OF_IMAGES = ("images", "crop", "exif", "detection", "score", "other")
OF_CLASSIFIERS = ("inputs", "crop", "exif", "score", "other")


def run(config: DictConfig) -> None:
    """Draw the requested sheets."""
    console = open_console()
    path = Path(config.run)
    methods = choose(config.attribution, [*METHODS], "attribution")
    out = path / "see" if config.out is None else Path(config.out)
    of_run = load.config_of(path, "run")
    draw = _sequences if isinstance(of_run.data, OwnDataset) else _images
    if detect.detects(path):
        draw = _detections

    def say(sheet: Sheet) -> None:
        console.print("\n".join([f"{sheet.name} -> {sheet.path}", *sheet.notes]), soft_wrap=True)

    title, sheets = draw(config, path, out, methods, of_run.train.cpu_kernels, say)
    page = out / "index.html"
    html = page_of(title, sheets, f"{sys.argv[0]} {shlex.join(sys.argv[1:])}")
    page.write_text(html, encoding="utf-8", errors="backslashreplace")
    console.print(str(page), soft_wrap=True)
    if config.wandb:
        pictures = {sheet.name: sheet.path for sheet in sheets}
        mode = log_pictures(path, pictures, out, lambda line: console.print(line, soft_wrap=True))
        if mode:
            console.print(f"{len(sheets)} sheets to Weights & Biases, {mode}")


def _images(
    config: DictConfig, path: Path, out: Path, methods: Sequence[str], kernels: Any, say: Print
) -> tuple[str, list[Sheet]]:
    """Draw the sheets of a net of images, or of two; return its title too."""
    if config.inputs is not None:
        raise UserError(f"inputs= is for nets of sequences; {path.name} takes images: say images=.")
    if config.detection is not None:
        raise UserError(f"detection= is for detectors, and {path.name} is none: leave it away.")
    classes = None if config.classes is None else list(config.classes)
    scores = choose(config.score, SCORES, "score")
    chosen = chosen_sheets(
        str(config.method),
        other=config.other,
        images=config.images,
        classes=classes,
        scores=scores,
    )
    check_directory(out, "out")
    device.start_jax(kernels)
    device.close_cache()  # the layers' functions close over the weights
    drawn = []
    with progress_bar(open_console()) as progress:
        subjects = _subjects(config, path, progress)
        numbers = None if classes is None else class_numbers(classes, subjects[0].class_names)
        out.mkdir(parents=True, exist_ok=True)
        for name in chosen:
            sheet = out / f"{name}.png"
            notes = draw_sheet(
                name,
                subjects,
                sheet,
                layer=config.layer,
                n=config.n,
                channels=config.channels,
                examples=config.examples,
                methods=methods,
                classes=numbers,
                scores=scores,
            )
            drawn.append(Sheet(name, CAPTIONS[name], sheet, notes))
            say(drawn[-1])
    return subjects[0].title, drawn


def _subjects(config: DictConfig, path: Path, progress: Progress) -> list[Any]:
    """Return the net and perhaps the other one, with their images."""
    subject = partial(
        subject_of,
        checkpoint=config.checkpoint,
        data_dir=config.data.dir,
        split=str(config.split),
        examples=config.examples,
        images=None if config.images is None else Path(config.images),
        crop=config.crop,
        exif=config.exif,
        progress=progress,
        warn=partial(open_console(stderr=True).print, soft_wrap=True),
    )
    subjects = [subject(path, "run")]
    if config.images is None and config.n is not None:
        figures.require(subjects[0], config.n)
    if config.other is not None:
        subjects.append(subject(Path(config.other), "other"))
        first, second = subjects
        if first.shape != second.shape:
            raise UserError(f"run and other take images of {first.shape} and {second.shape}.")
        if first.title == second.title:
            subjects[1] = replace(second, title=Path(config.other).name)
    return subjects


def _sequences(
    config: DictConfig, path: Path, out: Path, methods: Sequence[str], kernels: Any, say: Print
) -> tuple[str, list[Sheet]]:
    """Draw the sheets of a net of texts, sounds, DNA or other sequences; return its title too."""
    chosen = [*see_sequences.SHEETS] if config.method == "all" else [str(config.method)]
    if chosen[0] not in see_sequences.SHEETS:
        raise UserError(
            f"method={config.method} is for nets of images, and {path.name} is none: choose "
            f"{', '.join(see_sequences.SHEETS)} or all."
        )
    for key in OF_IMAGES:
        if config[key] is not None:
            instead = "say inputs=TEXT or FILE" if key == "images" else "leave it away"
            raise UserError(
                f"{key}={config[key]} is for nets of images, and {path.name} is none: {instead}."
            )
    check_directory(out, "out")
    device.start_jax(kernels)
    device.close_cache()
    with progress_bar(open_console()) as progress:
        title, sheets = see_sequences.draw_sheets(
            path,
            out,
            chosen,
            checkpoint=config.checkpoint,
            data_dir=config.data.dir,
            split=str(config.split),
            examples=config.examples,
            given=None if config.inputs is None else given_inputs(str(config.inputs)),
            methods=methods,
            layer=config.layer,
            classes=None if config.classes is None else list(config.classes),
            n=config.n,
            progress=progress,
        )
    for sheet in sheets:
        say(sheet)
    return title, sheets


def _detections(
    config: DictConfig, path: Path, out: Path, methods: Sequence[str], kernels: Any, say: Print
) -> tuple[str, list[Sheet]]:
    """Draw which pixels made a detector's boxes; return its title too."""
    if config.method not in (see_detections.SHEET, "all"):
        raise UserError(
            f"method={config.method} is for nets that classify, and {path.name} finds objects: "
            f"choose {see_detections.SHEET}."
        )
    for key in OF_CLASSIFIERS:
        if config[key] is not None:
            raise UserError(
                f"{key}={config[key]} is not for detectors, and {path.name} is one: leave it away."
            )
    check_directory(out, "out")
    device.start_jax(kernels)
    device.close_cache()
    with progress_bar(open_console()) as progress:
        title, sheet = see_detections.draw_sheet(
            path,
            out,
            checkpoint=config.checkpoint,
            data_dir=config.data.dir,
            split=str(config.split),
            images=None if config.images is None else Path(config.images),
            methods=methods,
            layer=config.layer,
            classes=None if config.classes is None else list(config.classes),
            which=config.detection or 0,
            n=config.n,
            progress=progress,
        )
    say(sheet)
    return title, [sheet]
