"""Synthetic studies: run directories as written by training, without training."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from deeper.config.compose import configure
from deeper.study.report import make_report

DEPTHS = (8, 14, 20, 32, 44)
RESIDUAL, PLAIN = (13.5, 13.3, 13.1, 12.8, 12.5), (13.8, 14.0, 14.5, 19.0, 25.2)
SEEDS = (0, 1, 2)

DEFINITION = {
    "name": "depth_test",
    "title": "Depth, tested",
    "claim": "Deeper is better, but only with shortcuts.",
    "metric": "test/error",
    "metric_label": "test error (%)",
    "x": "depth",
    "x_label": "depth (layers)",
    "line": "residual",
    "line_names": {"true": "residual", "false": "plain"},
    "depths": list(DEPTHS),
    "arms": {"model": ["plain", "resnet"], "model.depth": list(DEPTHS)},
    "seeds": list(SEEDS),
    "published": {"dataset": "cifar10"},
    "tests": [
        {
            "claim": "At 44 layers the residual net is better.",
            "better": {"residual": True, "depth": 44},
            "worse": {"residual": False, "depth": 44},
        },
        {
            "claim": "With shortcuts, depth helps.",
            "among": {"residual": True},
            "trend": "falls",
        },
    ],
}


@functools.cache
def frozen_config() -> str:
    """Return the config of a run of a study in quick mode, as `deeper train` freezes it."""
    net = ("model=resnet", "model.depth=20", "optimizer.learning_rate=0.1")
    config = configure("study=depth_fashion", "mode=quick", *net)
    return json.dumps(config.plain())


def with_changes(values, changes):
    """Return a config with other values; sections are merged."""
    return values | {
        key: with_changes(values[key], value)
        if isinstance(value, dict) and isinstance(values.get(key), dict)
        else value
        for key, value in changes.items()
    }


def write_run(
    root, label, seed, error, *, depth=None, residual=None, status="finished", study=None,
    macs=None, config=None, environment=None, name="0123abcd", overrides="", facts=None,
) -> Path:  # fmt: skip
    """Write one run directory; ``status`` is finished, diverged or unfinished."""
    path = root / f"{label}-s{seed}-{name}"
    path.mkdir(parents=True)
    given = ["study=depth_test", "mode=quick", f"seed={seed}", *overrides.split()]
    command = f"'deeper train' {' '.join(given)}"
    changes = {
        "label": label,
        "seed": seed,
        "model": {"depth": depth, "residual": residual},
        "choices": {"model": label.rstrip("0123456789"), "study": "depth_test"},
    }
    stated = with_changes(json.loads(frozen_config()), changes)
    stated["study"] = DEFINITION if study is None else study
    stated = with_changes({**stated, "config_hash": name}, config or {})
    (path / "config.yaml").write_text(yaml.safe_dump(stated, sort_keys=False))
    about = {
        "git_commit": "c0ffee0123456789",
        "git_dirty": False,
        "jax": "0.12.0",
        "platform": "cpu",
        "cpu": "A processor",
        "started": "2026-01-01T00:00:00+00:00",
        "command": command,
        "overrides": given,
        "run": {"steps": 100, "batch_size": 8},
        **(environment or {}),
    }
    (path / "environment.json").write_text(json.dumps(about))
    rows = []
    for step in range(10, 101, 10):
        at = {"step": step, "epoch": step / 100, "examples": step * 8, "time": float(step)}
        rows.append({**at, "train/loss": 1.0, "train/error": min(90, error + 400 / step)})
        rows.append({**at, "validation/loss": 1.0, "validation/error": error + 300 / step})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status == "unfinished":
        return path
    result = {
        "status": status,
        "label": label,
        "seed": seed,
        "depth": depth,
        "residual": residual,
        "parameters": 1500 * (depth or 20),
        "macs": macs or 120_000 * (depth or 20),
        "steps": 100,
        "epochs": 1.0,
        "train_images": 800,
        "seconds": 10.0,
        "compile_seconds": 1.0,
        "images_per_second": 80.0,
        "metrics": {"test/error": error, "train/error": error - 1.5, "test/n_seen": 10_000},
        "config_hash": name,
        "git_commit": about["git_commit"],
        "command": command,
        "overrides": given,
        **(facts or {}),
    }
    if status == "diverged":
        result |= {"metrics": {}, "step": 7, "reason": "non-finite loss at step 7"}
    (path / "result.json").write_text(json.dumps(result))
    return path


def write_net(root, residual, depth, seed, error, **more) -> Path:
    """Write a run of a plain or residual net."""
    label = f"{'resnet' if residual else 'plain'}{depth}"
    return write_run(root, label, seed, error, depth=depth, residual=residual, **more)


def write_study(root, residual=RESIDUAL, plain=PLAIN, seeds=SEEDS, jitter=0.1, **more) -> Path:
    """Write a study of all depths and seeds."""
    draw = np.random.default_rng(1)
    for shortcuts, errors in ((True, residual), (False, plain)):
        for depth, error in zip(DEPTHS, errors, strict=True):
            for seed in seeds:
                near = round(error + float(draw.normal(0, jitter)), 2)
                write_net(root, shortcuts, depth, seed, near, **more)
    return root


@pytest.fixture
def study(tmp_path):
    """A complete study of three seeds."""
    return write_study(tmp_path / "depth_test")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a complete study, which tests must not change."""
    return make_report(write_study(tmp_path_factory.mktemp("runs") / "depth_test"))
