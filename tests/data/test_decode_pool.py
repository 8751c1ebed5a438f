"""Decoding processes: cleanup and messages when one of them or the parent dies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeper.data.dataset import open_dataset
from deeper.data.decode_pool import MEMORY, Processes
from deeper.data.encoded_images import View
from deeper.data.epoch_order import batch_indices
from deeper.data.host_batches import Workers, stream
from deeper.data.prepare.image_folder import read_tree
from deeper.data.prepare.prepare import prepare_photographs
from deeper.errors import UserError

VIEW = View((32, 32, 3), "inception", 36, antialias=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (root / "tree" / label).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 256, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / "tree" / label / f"{i}.jpg")
    prepare_photographs("pets", root, lambda: read_tree(root / "tree", 0.2), 3)
    return root


def opened(root):
    train = open_dataset("pets", root, view=VIEW).splits["train"]
    return train, partial(batch_indices, len(train), 16, 0)


def until(true):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


KILLED = """
import multiprocessing, sys
from functools import partial
from pathlib import Path
from pathlib import Path
from tests.data.test_decode_pool import Workers, opened, stream
if __name__ == "__main__":
    train, order = opened(Path(sys.argv[1]))
    batches = stream(train, order, 0, stop=None, seed=0, workers=Workers(2, processes=True))
    next(batches)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    for _ in batches:
        pass
"""


@pytest.mark.skipif(not MEMORY.is_dir(), reason="shared memory is no directory here")
def test_a_killed_run_leaves_no_process_and_no_shared_memory(prepared, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    before = set(MEMORY.iterdir())
    with subprocess.Popen(
        [sys.executable, str(script), str(prepared)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(Path.cwd()), *sys.path))},
    ) as process:
        assert process.stdout is not None
        children = [int(pid) for pid in process.stdout.readline().split()]
        shared = set(MEMORY.glob("psm_*")) - before
        process.kill()
    assert len(children) == 2 and shared
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    until(lambda: not any(path.exists() for path in shared))


def test_a_killed_process_is_told_of_and_nothing_is_left(prepared):
    train, order = opened(prepared)
    batches = stream(train, order, 0, stop=None, seed=0, workers=Workers(2, processes=True))
    next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    with pytest.raises(UserError, match="was ended from outside"):
        for _ in batches:
            pass
    assert not multiprocessing.active_children()


@pytest.mark.skipif(not MEMORY.is_dir(), reason="shared memory is no directory here")
def test_too_little_shared_memory_is_said_before_anything_starts(prepared):
    train, _ = opened(prepared)
    slots = os.statvfs(MEMORY).f_blocks * os.statvfs(MEMORY).f_frsize // (16 * 32 * 32 * 3) + 1
    with pytest.raises(UserError, match=r"MB of shared memory.*--shm-size.*data\.processes=false"):
        Processes(train.images, 2, slots, (16, 32, 32, 3), 0)
    assert not multiprocessing.active_children()
