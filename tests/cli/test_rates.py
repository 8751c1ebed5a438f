"""The message on the bottleneck of a run."""

from pathlib import Path

import numpy as np
import pytest

from deeper.config.compose import configure
from deeper.data.encoded_images import Photographs, View
from deeper.data.host_batches import Workers
from deeper.data.prepare.jpeg_storage import Storage, write_storage
from deeper.run.bottleneck import rate_lines
from deeper.run.input_pipeline import workers_of
from deeper.train.throughput import Rates


def config_of(**data):
    """Return the config of a run on photographs."""
    return configure("data=folder", "data.name=pets", "data.classes=3").replace(data=data)


def lines(images, rates, on_cpu=False, **data):
    usual = {"crop": "vgg", "workers": None, "processes": False, "antialias": True}
    return list(rate_lines(config_of(**usual | data), images, rates, on_cpu=on_cpu))


@pytest.fixture
def photographs(tmp_path):
    return Photographs(tmp_path, "train", np.arange(3), View((8, 8, 3), "inception", 9, True))


def test_the_slower_side_is_named_with_the_remedies_that_are_left(photographs, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(4))
    found = lines(photographs, Rates(data=900.4, compute=2000), workers=2)
    assert found[0] == "data alone 900 ex/s, compute 2,000 ex/s: the run is bound by data"
    assert [line.split()[1:3] for line in found[1:]] == [
        ["data.workers=null,", "a"],
        ["deeper", "prepare"],
        ["data.processes=true", "(the"],
        ["data.antialias=fast", "(pixels"],
        ["data.antialias=false", "(other"],
        ["more", "cores"],
    ]
    assert "accuracy" in found[5]
    write_storage(Path(photographs.directory), _laid())
    done = lines(photographs, Rates(900, 2000), processes=True, antialias=False)
    assert done[1:] == ["  faster: more cores"]
    assert "bound by compute" in lines(photographs, Rates(900, 20))[0]
    assert "would not help" in lines(photographs, Rates(900, 20), on_cpu=True)[1]
    shared = lines(photographs, Rates(900, 800), on_cpu=True)
    assert "both share the cores" in shared[1] and "data.processes=true" in shared[2]
    assert "data.on_device=true" in lines(np.zeros(3), Rates(900, 2000))[1]


@pytest.mark.parametrize(
    ("cores", "workers", "free", "expected"),
    [
        (4, None, 1 << 40, False),
        (16, None, 1 << 40, True),
        (16, 4, 1 << 40, False),
        (2, 8, 1 << 40, True),
        (16, None, 64 << 20, False),
    ],
)
def test_many_cores_decode_by_processes(monkeypatch, cores, workers, free, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(cores))
    monkeypatch.setattr("deeper.run.input_pipeline.free_memory", lambda: free)
    data = config_of(crop="vgg", workers=workers, processes="auto").data
    assert workers_of(data) == Workers(workers, expected)


def _laid():
    storage = Storage()
    object.__setattr__(storage, "layout", "restart")  # which needs no jpegtran here
    return storage
