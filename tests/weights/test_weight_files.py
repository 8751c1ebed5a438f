"""Files of weights from the Hub, which a small server stands in for."""

import hashlib
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


class Hub(BaseHTTPRequestHandler):
    """Serves the files of one repository, by branch and by commit."""

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        name = self.path.rpartition("/")[2]
        body = FILES.get(name, b"")
        if self.path not in [f"/timm/tiny/resolve/{r}/{name}" for r in ("main", COMMIT)]:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            body = b""
        elif name not in FILES:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def read(source, endpoint, cache):
    # The library reads its endpoint once, when it is imported.
    here = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [sys.executable, "-c", READ, source],
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")} | here,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("revision", ["", f"@{COMMIT}"])
def test_a_repository_of_the_hub_is_read_with_its_commit(revision, tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub, which .ci/run installs")
    with hub() as endpoint:
        done = read(f"hf:timm/tiny{revision}", endpoint, tmp_path)
    assert done.returncode == 0, done.stderr
    sha256 = hashlib.sha256(save(WEIGHTS)).hexdigest()
    expected = f"{WEIGHTS['fc.weight'].tolist()} hf:timm/tiny{revision} {COMMIT} {sha256}"
    assert done.stdout.splitlines()[-2:] == [expected, "resnet26d cc-by-4.0"]
    # Once there, it needs no server.
    again = read(f"hf:timm/tiny@{COMMIT}", "http://127.0.0.1:9", tmp_path)
    assert again.returncode == 0, again.stderr


def test_a_repository_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("huggingface_hub", reason="needs the extra hub, which .ci/run installs")
    with hub() as endpoint:
        done = read("hf:timm/none", endpoint, tmp_path)
    assert done.returncode == 1 and "UserError: hf:timm/none cannot be had: " in done.stderr
    assert "Traceback" not in done.stderr
