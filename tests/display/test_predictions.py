"""The printed table of `deeper predict`."""

import io
from pathlib import Path

import numpy as np

from deeper.display.predictions import PRINTED, print_predictions
from deeper.display.terminal import open_console
from deeper.run.predict import Predictions


def printed(files, classes=2):
    scores = np.tile(np.arange(classes, dtype=np.float32), (len(files), 1))
    shares = np.full_like(scores, 1 / classes)
    names = tuple(f"class{number}" for number in range(classes))
    text = io.StringIO()
    answers = Predictions(tuple(files), shares, scores, names)
    print_predictions(answers, Path("out.csv"), {}, open_console(file=text), pictures=True)
    return text.getvalue()


def test_a_files_name_is_printed_as_it_is():
    assert "cat[1].jpg " in printed(["folder/cat[1].jpg"])


def test_so_many_pictures_are_printed_however_few_classes_there_are():
    files = [f"picture{number:02d}.jpg" for number in range(60)]
    text = printed(files)
    assert sum(name in text for name in files) == PRINTED
    assert "40 more" in text
