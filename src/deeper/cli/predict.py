"""``deeper predict images=PATH|inputs=TEXT weights=DIRECTORY``: the most probable classes.

Of a detector: the boxes that it finds.
"""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from deeper.cli.inputs import given_inputs
from deeper.cli.output_files import check_directory, check_file
from deeper.data.image_files import LeftOut, picture_files
from deeper.display.predictions import print_found, print_predictions
from deeper.display.run_display import progress_bar
from deeper.display.terminal import open_console
from deeper.errors import UserError
from deeper.run.detect import detect_files, detects
from deeper.run.predict import predict_files, predict_given


def run(config: DictConfig) -> None:
    """Print and write the most probable classes of each picture, or a detector's boxes."""
    out = Path(config.out or "predictions.csv")
    check_file(out, "out", make=True)
    left_out: LeftOut = {}
    if (config.images is None) == (config.inputs is None):
        raise UserError(
            "Say what the net is asked about: images=PATH, or inputs=PATH or TEXT where it was "
            "trained on sequences."
        )
    files = [] if config.images is None else picture_files(Path(config.images), left_out)
    if files and detects(Path(config.weights)):
        _detect(config, files, left_out)
        return
    with progress_bar(open_console(stderr=True)) as progress:
        if config.inputs is not None:
            answers = predict_given(
                Path(config.weights),
                given_inputs(str(config.inputs)),
                checkpoint=config.checkpoint,
                batch_size=config.batch_size,
                progress=progress,
            )
        else:
            answers = predict_files(
                Path(config.weights),
                files,
                checkpoint=config.checkpoint,
                crop=config.crop,
                exif=config.exif,
                batch_size=config.batch_size,
                data_dir=config.data.dir,
                progress=progress,
            )
    answers.write(out)
    print_predictions(answers, out, left_out, open_console(), pictures=config.inputs is None)
    _refuse(answers.left_out, len(files) or len(answers) + len(answers.left_out), bool(files))


def _detect(config: DictConfig, files: Sequence[Path], left_out: LeftOut) -> None:
    """Print and write what a detector finds, and draw it on the photographs."""
    out = Path(config.out or "predictions.json")
    check_file(out, "out", (".json",), make=True)
    drawn = out.with_suffix("")
    check_directory(drawn, "out")
    for key in ("crop", "exif"):
        if config[key] is not None:
            raise UserError(
                f"{key}={config[key]}: a detector sees whole photographs, upright; leave it out."
            )
    with progress_bar(open_console(stderr=True)) as progress:
        found = detect_files(
            Path(config.weights),
            files,
            checkpoint=config.checkpoint,
            batch_size=config.batch_size,
            progress=progress,
        )
        found.write(out, drawn, progress)
    print_found(found, out, drawn, left_out, open_console())
    _refuse(found.left_out, len(files), files=True)


def _refuse(left_out: Sequence[str], given: int, files: bool) -> None:
    """Raise a UserError about what could not be answered, after the rest was."""
    if left_out:
        what = "files" if files else "examples"
        head = f"{len(left_out):,} of {given:,} {what} left out:"
        raise UserError("\n".join([head, *left_out]))
