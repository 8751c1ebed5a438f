"""Files of weights from the Hub, which a small server stands in for."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from tests.weights import hub_server
from tests.weights.hub_server import COMMIT

WEIGHTS = {"fc.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
FILES = {
    "model.safetensors": save(WEIGHTS),
    "config.json": b'{"architecture": "resnet26d", "num_classes": 2}',
    "README.md": b"---\nlicense: cc-by-4.0\n---\n# A net\n",
}
READ = """
import sys
from deeper.errors import UserError
from deeper.weights.weight_files import read
try:
    file = read(sys.argv[1], "import")
except UserError as error:
    sys.exit(f"UserError: {error}")
origin = file.origin
print(file.arrays["fc.weight"].tolist(), origin["source"], origin["revision"], origin["sha256"])
print(file.architecture, file.licence)
"""


def read(source, endpoint, cache):
    # The library reads its endpoint once, when it is imported.
    return subprocess.run(
        [sys.executable, "-c", READ, source],
        env=hub_server.environment(endpoint, cache, os.environ),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_a_repository_of_the_hub_is_read_with_its_commit(revision, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub, which .ci/run installs")
    with hub_server.serving({"timm/tiny": dict(FILES)}) as hub:
        done = read(f"hf:timm/tiny{revision}", hub.url, tmp_path)
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256(save(WEIGHTS)).hexdigest()
    expected = f"{WEIGHTS['fc.weight'].tolist()} hf:timm/tiny{revision} {COMMIT} {sha256}"
    assert done.stdout.splitlines()[-2:] == [expected, "resnet26d cc-by-4.0"]
    # Once there, it needs no server.
    again = read(f"hf:timm/tiny@{COMMIT}", "http://127.0.0.1:9", tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_repository_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub, which .ci/run installs")
    with hub_server.serving({"timm/tiny": dict(FILES)}) as hub:
        done = read("hf:timm/none", hub.url, tmp_path)
    assert done.returncode == 1 and "UserError: hf:timm/none cannot be had: " in done.stderr
    assert "Traceback" not in done.stderr
