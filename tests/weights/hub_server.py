"""As much of the Hugging Face Hub as uploads and downloads of a model need."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_a_test"


class Hub(ThreadingHTTPServer):
    """Keeps files by repository: ``files["OWNER/NAME"]["README.md"]``."""

    def __init__(self, files=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files or {}
        self.large = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._get(with_body=False)

    def do_GET(self):
        self._get(with_body=True)

    def do_PUT(self):
        self.server.large[self.path.rpartition("/")[2]] = self._body()
        self._send(200)

    def do_POST(self):
        body = self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b'{"error": "Invalid username or password."}')
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked['organization']}/{asked['name']}"
            self.server.files.setdefault(repository, {})
            self._json({"url": f"{self.server.url}/{repository}", "id": repository})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if "safetensors" in file["path"] else "regular",
                            "shouldIgnore": False,
                            "oid": None,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.server.url}/lfs/{each['oid']}"}}
            self._json({"transfer": "basic", "objects": objects})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            self._commit(match[1], [json.loads(line) for line in body.splitlines()])
        else:
            self._send(404)

    def _commit(self, repository, lines):
        files = self.server.files[repository]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        url = f"{self.server.url}/{repository}/commit/{COMMIT}"
        self._json({"commitUrl": url, "commitOid": COMMIT, "success": True})

    def _get(self, with_body):
        api = re.fullmatch(r"/api/models/([^/?]+/[^/?]+)(/revision/\w+)?(\?.*)?", self.path)
        if api and api[1] in self.server.files:
            names = [{"rfilename": name} for name in self.server.files[api[1]]]
            self._json({"id": api[1], "sha": COMMIT, "siblings": names})
            return
        match = re.fullmatch(rf"/([^/]+/[^/]+)/resolve/(?:main|{COMMIT})/(.+)", self.path)
        files = self.server.files.get(match[1]) if match else None
        if files is None:
            self._send(404, headers={"X-Error-Code": "RepoNotFound"})
        elif match[2] not in files:
            missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            self._send(404, headers=missing)
        else:
            body = files[match[2]]
            digest = hashlib.sha256(body).hexdigest()
            self._send(200, body, {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"'}, with_body)

    def _body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _json(self, values):
        self._send(200, json.dumps(values).encode(), {"Content-Type": "application/json"})

    def _send(self, status, body=b"", headers=None, with_body=True):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@contextmanager
def serving(files=None):
    """Serve some files on this machine."""
    hub = Hub(files)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join(10)


def environment(endpoint, cache, before):
    """The environment of a process that finds this Hub, and no other."""
    here = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    return {name: value for name, value in before.items() if not name.startswith("HF_")} | here
