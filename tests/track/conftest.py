"""A run directory, and W&B settings of a user without an account."""

import os

import pytest

from deeper.record.run_directory import RunDirectory
from tests.track.wandb_server import serving


def config_of(mode: str = "auto", learning_rate: float = 0.1) -> dict:
    return {
        "label": "resnet20",
        "seed": 0,
        "model": {"_target_": "deeper.models.resnet.resnet", "depth": 20},
        "optimizer": {"learning_rate": learning_rate},
        "tracker": {"mode": mode, "project": "deeper", "entity": None},
        "study": {"name": "depth_fashion"},
        "mode": {"name": "quick"},
    }


def row(step: int) -> dict:
    return {"step": step, "epoch": step / 10, "time": step / 100, "train/loss": 1 / (1 + step)}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "depth_fashion" / "resnet20-s0-0123abcd"


@pytest.fixture
def directory(path):
    with RunDirectory.open(path, config_of(), "0123abcd") as directory:
        yield directory


@pytest.fixture
def no_account(tmp_path, monkeypatch):
    """W&B is turned on, without a login."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))


@pytest.fixture
def online(no_account, monkeypatch):
    """W&B is a server on this machine, with a login."""
    with serving() as server:
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        yield server
