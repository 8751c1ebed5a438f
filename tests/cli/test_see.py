"""Seeing end to end."""

import re

from tests.cli.test_train import SMALL, start

__all__ = ["start"]


def test_all_sheets_and_a_page_of_them(start, tmp_path):
    done = start("train", *SMALL, "train.steps=10", "train.epochs=null")
    assert done.returncode == 0, done.output
    [run] = tmp_path.glob("runs/single/*")
    done = start("see", f"run={run}", "n=2", "channels=2")
    assert done.returncode == 0, done.output
    page = (run / "see" / "index.html").read_text()
    sheets = ("filters", "activations", "field", "deconvnet", "attribution", "maximise")
    sheets += ("probes", "dynamics")
    assert re.findall(r"<h2>(\w+)</h2>", page) == [name.capitalize() for name in sheets]
    assert page.count("data:image/png;base64,") == 8
    assert all((run / "see" / f"{name}.png").is_file() for name in sheets)
    for arguments, expected in {
        ("method=cam",): "method=cam is unknown; choose one of filters",
        ("method=similarity",): "say other=DIRECTORY",
        ("split=tset",): "split=tset is not there; this run has validation, test, train",
        ("n=99999",): "give 1 to 100 images",
    }.items():
        wrong = start("see", f"run={run}", *arguments)
        assert wrong.returncode == 2 and expected in wrong.output, wrong.output
