"""Each script in experiments/ works with the present package.

What a script takes from ``deeper`` has to be there. Those that define `main` are imported, too; the
others work when they are imported, or need packages that are installed for them alone.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SCRIPTS = sorted(str(file.relative_to(EXPERIMENTS)) for file in EXPERIMENTS.rglob("*.py"))
PACKAGES_OF_THEIR_OWN = {"torch", "torchvision", "timm", "tensorflow", "grain", "nvidia", "skimage"}

# Each in turn, with its own folder in the path, as `python experiments/...` has it.
IMPORT = """
import runpy, sys, traceback
for script in sys.argv[1:]:
    sys.path.insert(0, script.rpartition("/")[0])
    try:
        runpy.run_path(script, run_name="imported")
    except BaseException:
        traceback.print_exc()
        sys.exit(f"{script} cannot be imported")
    sys.path.pop(0)
"""


def parsed(script):
    return ast.parse((EXPERIMENTS / script).read_text(), script)


def imported(tree):
    """Return the modules that a script imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def missing(tree):
    """Return what a script takes from the package that is not there."""
    modules = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.module.split(".")[0] != "deeper":
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            try:
                value = getattr(module, alias.name)
            except AttributeError:
                try:
                    value = importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    yield f"{node.module}.{alias.name}"
                    continue
            if isinstance(value, ModuleType):
                modules[alias.asname or alias.name] = value
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = modules.get(node.value.id)
            if module is not None and not hasattr(module, node.attr):
                yield f"{module.__name__}.{node.attr}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_takes_from_the_package_is_there(script):
    assert not list(missing(parsed(script)))


def test_a_name_that_is_not_there_is_found_missing():
    tree = ast.parse(
        "from deeper.errors import UserError, Riddle\nfrom deeper import errors\nerrors.Enigma\n"
    )
    assert list(missing(tree)) == ["deeper.errors.Riddle", "deeper.errors.Enigma"]


def test_scripts_that_define_main_can_be_imported():
    scripts = []
    for script in SCRIPTS:
        tree = parsed(script)
        own = {name.split(".")[0] for name in imported(tree)} & PACKAGES_OF_THEIR_OWN
        guarded = any(
            isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body
        )
        if guarded and not own:
            scripts.append(str(EXPERIMENTS / script))
    assert len(scripts) >= 10
    done = subprocess.run([sys.executable, "-c", IMPORT, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
