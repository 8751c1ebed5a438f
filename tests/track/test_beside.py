"""Sheets sent to W&B."""

import numpy as np
import pytest
from PIL import Image

from deeper.track.beside import log_pictures
from deeper.track.run_directory import RunDirectory
from tests.track.conftest import config_of
from tests.track.wandb_server import offline_rows


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_sheets_go_where_the_tracker_says(tmp_path, no_account, mode):
    run, sheet = tmp_path / "study" / "run", tmp_path / "filters.png"
    with RunDirectory.open(run, config_of(mode), "0123abcd"):
        pass
    Image.fromarray(np.eye(8, dtype=np.uint8)).save(sheet)
    said = []
    assert log_pictures(run, {"filters": sheet}, tmp_path, said.append) == (
        "offline" if mode == "offline" else None
    )
    if mode == "disabled":
        assert said == ["Weights & Biases is turned off: the sheets were not sent."]
        return
    assert not said
    [row] = offline_rows(tmp_path)
    assert row["filters/_type"] == "image-file"
    [stored] = (tmp_path / "wandb").glob("offline-run-*/files/media/images/filters_*.png")
    assert stored.read_bytes() == sheet.read_bytes()
