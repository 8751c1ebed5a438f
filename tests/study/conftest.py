"""Synthetic studies: run directories as training leaves them, without the training."""

import json

import numpy as np
import pytest
import yaml

DEPTHS = (8, 14, 20, 32, 44)
ERRORS = {True: (13.5, 13.3, 13.1, 12.8, 12.6), False: (13.8, 14.0, 14.5, 19.0, 25.2)}

DEFINITION = {
    "name": "depth_test",
    "claim": "Deeper is better, but only with shortcuts.",
    "metric": "test/error",
    "x": "depth",
    "x_label": "depth (layers)",
    "line": "residual",
    "line_names": {"true": "residual", "false": "plain"},
    "arms": {"model": ["plain", "resnet"], "model.depth": list(DEPTHS)},
    "seeds": [0, 1, 2],
    "published": {"dataset": "cifar10"},
    "tests": [
        {
            "claim": "At 44 layers the residual net is better.",
            "better": {"residual": True, "depth": 44},
            "worse": {"residual": False, "depth": 44},
        },
        {
            "claim": "Residual-44 is better than residual-8.",
            "better": {"residual": True, "depth": 44},
            "worse": {"residual": True, "depth": 8},
        },
    ],
}


def write_run(root, residual, depth, seed, error, status="finished", definition=None):
    label = f"{'resnet' if residual else 'plain'}{depth}"
    path = root / f"{label}-s{seed}-0123abcd"
    path.mkdir(parents=True)
    config = {
        "label": label,
        "seed": seed,
        "mode": {"name": "quick"},
        "study": definition or DEFINITION,
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {"git_commit": "c0ffee", "jax": "0.12", "cpu": "A", "run": {"steps": 100}}
    (path / "environment.json").write_text(json.dumps(environment))
    rows = []
    for step in range(10, 101, 10):
        at = {"step": step, "epoch": step / 100, "examples": step * 8, "time": float(step)}
        rows.append({**at, "train/loss": 1.0, "train/error": error + 900 / step})
        rows.append({**at, "validation/loss": 1.0, "validation/error": error + 950 / step})
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if status == "unfinished":
        return path
    result = {
        "status": status,
        "label": label,
        "seed": seed,
        "depth": depth,
        "residual": residual,
        "parameters": 1000 * depth,
        "macs": 100_000 * depth,
        "steps": 100,
        "epochs": 1.0,
        "train_images": 800,
        "seconds": 10.0,
        "compile_seconds": 1.0,
        "images_per_second": 80.0,
        "metrics": {"test/error": error, "train/error": error - 1.5, "test/n_seen": 10_000},
        "config_hash": "0123abcd",
        "git_commit": "c0ffee",
        "reason": "non-finite loss at step 7" if status == "diverged" else "",
    }
    (path / "result.json").write_text(json.dumps(result))
    return path


@pytest.fixture
def study(tmp_path):
    """A complete study of three seeds."""
    rng = np.random.default_rng(0)
    root = tmp_path / "depth_test"
    for residual, errors in ERRORS.items():
        for depth, error in zip(DEPTHS, errors, strict=True):
            for seed in (0, 1, 2):
                write_run(root, residual, depth, seed, error + float(rng.normal(0, 0.1)))
    return root
