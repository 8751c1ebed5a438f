"""The notebooks, run by a kernel from a built wheel in an empty directory."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The package as an installer unpacks its wheel."""
    place = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as b; print(b.build_wheel({str(place)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(place / done.stdout.split()[-1]) as wheel:
        wheel.extractall(place / "site")
    return place / "site"


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own packages
@pytest.mark.parametrize(
    ("name", "makes"),
    [
        ("tour.ipynb", ["data", "runs"]),
        ("transfer/lab.ipynb", ["data", "others", "photographs", "runs", "source.safetensors"]),
    ],
)
def test_a_notebook_runs_from_a_wheel_in_an_empty_directory(
    site, tmp_path, monkeypatch, name, makes
):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # the package sets its own
    notebook = nbformat.read(ROOT / "experiments" / name, as_version=4)
    kept = [cell.get("outputs") for cell in notebook.cells]
    where = nbformat.v4.new_code_cell("print(deeper.__file__)")
    notebook.cells.append(where)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(empty)}}
    )
    client.execute(env=dict(os.environ))
    assert where.outputs[0].text.strip() == str(site / "deeper" / "__init__.py")
    for cell, before in zip(notebook.cells[:-1], kept, strict=True):
        # What a reader sees there is what comes out today, in kind.
        assert bool(cell.get("outputs")) == bool(before), cell.source
    assert sorted(path.name for path in empty.iterdir()) == makes
