"""A key that changes nothing of what a command does is told, not taken silently."""

import ast
from dataclasses import fields
from pathlib import Path

import pytest

from deeper.cli import main
from deeper.cli.help import used_keys
from deeper.config.schema import RunConfig
from deeper.config.unused_keys import OF_A_RUN, PARTS
from deeper.config.verbs import VERBS

CONF = main.conf_directory()
SOURCE = Path(main.__file__).parent
OTHERS = sorted({*VERBS} - {*OF_A_RUN})
# Modules that read a command's config for it.
ALSO = {
    "evaluate": ("cli/run_keys", "run/suite_reports"),
    "features": ("cli/run_keys",),
    "prepare": ("cli/run_keys",),
    "sweep": ("config/identity",),
}

IDLE = {
    "evaluate run=x augment=flip": "augment=flip",
    "evaluate run=x task=text": "task=text",
    "features run=x augment=none": "augment=none",
    "prepare data=languages task=sound": "task=sound",
    "prepare augment=flip": "augment=flip",
    "sweep cancel study=depth_fashion seed=3": "seed=3",
    "sweep status study=depth_fashion model=vgg": "model=vgg",
    "sweep status study=depth_fashion jobs=2": "jobs=2",
    "sweep cancel study=depth_fashion all=true": "all=true",
    "search lr study=search_fashion trials=9": "trials=9",
    "search run study=search_fashion trial=9": "trial=9",
    "predict inputs=x weights=y crop=0.9": "crop=0.9",
    "see run=x exif=apply": "exif=apply",
    "weights run=x out=y.onnx prefix=net": "prefix=net",
    "weights import=x out=y checkpoint=best": "checkpoint=best",
    "inspect conv input=8x8 kind=pool channels=4": "channels=4",
    "weights run=x out=y.onnx model=vgg": "model=vgg",
    "features run=x draw=2": "draw=2",
    "inspect model=lenet5 out=net.png": "out=net.png",
    "inspect model=lenet5 sheet=4": "sheet=4",
    "inspect augment=flip format=csv": "format=csv",
    "train model=lenet5 code=tree": "code=tree",
    "doctor model=vgg": "model=vgg",
    "doctor train.batch_size=8": "train.batch_size=8",
}


@pytest.mark.parametrize("command", IDLE)
def test_a_key_that_changes_nothing_is_told(command, mistake):
    assert f"deeper: {IDLE[command]} has " in mistake(*command.split())


@pytest.mark.parametrize("verb", OTHERS)
def test_the_code_of_a_command_reads_each_of_its_keys(verb):
    read = set()
    for module in (f"cli/{verb}", *ALSO.get(verb, ())):
        tree = ast.parse((SOURCE.parent / f"{module}.py").read_text())
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        read |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert used_keys(verb, CONF) - read == set()


@pytest.mark.parametrize("verb", PARTS)
def test_a_key_with_a_part_in_some_uses_is_a_key_of_the_command(verb):
    known = used_keys(verb, CONF) | {key.name for key in (*fields(VERBS[verb]), *fields(RunConfig))}
    assert {key for part in PARTS[verb] for key in (*part.keys, *part.others)} <= known
