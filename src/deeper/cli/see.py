"""``deeper see run=DIRECTORY``: draws visualisations of a net as sheets, and a page of them."""

import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.output_files import check_directory
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.interpret import figures
from deeper.interpret.sheets import chosen_sheets, draw_sheet, page_of
from deeper.run import device, load
from deeper.run.subject import subject_of
from deeper.track.wandb_results import log_pictures


def run(config: DictConfig) -> None:
    """Draw the requested sheets."""
    console = open_console()
    path = Path(config.run)
    chosen = chosen_sheets(str(config.method), other=config.other, images=config.images)
    out = path / "see" if config.out is None else Path(config.out)
    check_directory(out, "out")
    device.start_jax(load.config_of(path, "run").train.cpu_kernels)
    device.close_cache()  # the layers' functions close over the weights
    with progress_bar(console) as progress:
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
        if config.images is None:
            figures.require(subjects[0], config.n)
        if config.other is not None:
            subjects.append(subject(Path(config.other), "other"))
            first, second = subjects
            if first.shape != second.shape:
                raise UserError(f"run and other take images of {first.shape} and {second.shape}.")
            if first.title == second.title:
                subjects[1] = replace(second, title=Path(config.other).name)
        out.mkdir(parents=True, exist_ok=True)
        sheets = {name: out / f"{name}.png" for name in chosen}
        for name, sheet in sheets.items():
            draw_sheet(
                name,
                subjects,
                sheet,
                layer=config.layer,
                n=config.n,
                channels=config.channels,
                examples=config.examples,
            )
            console.print(f"{name} -> {sheet}", soft_wrap=True)
    page = out / "index.html"
    html = page_of(subjects[0].title, sheets, f"{sys.argv[0]} {shlex.join(sys.argv[1:])}")
    page.write_text(html, encoding="utf-8", errors="backslashreplace")
    console.print(str(page), soft_wrap=True)
    if config.wandb:
        mode = log_pictures(path, sheets, out, lambda line: console.print(line, soft_wrap=True))
        if mode:
            console.print(f"{len(sheets)} sheets to Weights & Biases, {mode}")
