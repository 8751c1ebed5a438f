"""Fixtures that run commands as a user does, on a small data set."""

import os
import subprocess
import sys
from functools import partial

import pytest
from hydra.core.global_hydra import GlobalHydra

from deeper.cli import main
from deeper.kernels import cpu_dispatch
from deeper.run import device

SMALL = (
    "model.depth=8",
    "model.width=4",
    "model.stem=stride2",
    "train.batch_size=16",
    "data.validation=100",
    "train.log_every=5",
    "train.train_error_examples=50",
)


def command(*arguments):
    return [sys.executable, "-m", "deeper", *arguments]


def starting(directory, data_dir):
    """Return a function that starts the command in a directory."""
    environment = {
        **os.environ,
        "WANDB_MODE": "disabled",
        "DEEPER_DATA": str(data_dir),
        "COLUMNS": "100",
    }
    environment.pop("XLA_FLAGS", None)

    def run(*arguments, wait=True, tree=None):
        process = subprocess.Popen(
            command(*arguments),
            cwd=directory,
            env=environment | ({} if tree is None else {"PYTHONPATH": str(tree / "src")}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if not wait:
            return process
        process.output = process.communicate(timeout=240)[0]
        return process

    return run


@pytest.fixture
def start(tmp_path, data_dir):
    """Starts the command in an empty directory, on the small data set."""
    return starting(tmp_path, data_dir)


@pytest.fixture
def mistake(said):
    """Return the message of a command with a mistake."""
    return partial(said, status=2)


@pytest.fixture
def said(tmp_path, data_dir, monkeypatch, capfd):
    """Return the output of a command, which runs in this process because that is faster."""
    monkeypatch.setenv("DEEPER_DATA", str(data_dir))
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments, directory=tmp_path, status=0):
        monkeypatch.chdir(directory)
        monkeypatch.setattr(sys, "argv", ["deeper", *map(str, arguments)])
        GlobalHydra.instance().clear()
        capfd.readouterr()
        with cpu_dispatch.turned_off():  # restored afterwards, since a command sets its own
            found = main.main()
        device.open_cache()  # some verbs close it
        out, err = capfd.readouterr()
        assert found == status, out + err
        assert "Traceback" not in out + err and "Error executing" not in err
        return out + err

    return run
