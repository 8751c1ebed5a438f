"""As much of a W&B server as a run's history needs, and a reader of W&B's offline files."""

import gzip
import json
import struct
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.track.artifact_store import ArtifactStore


class Server(ThreadingHTTPServer):
    """Keeps each run's history as W&B's does: lines, at the offsets that the client names."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs: dict[str, dict] = {}
        self.requests = 0
        self.alerts: list[dict] = []
        self.reports: dict[str, dict] = {}  # by id
        self.artifacts = ArtifactStore(self.url)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def rows(self, run: str) -> list[dict]:
        history = self.runs[run]["history"]
        return [json.loads(history[offset]) for offset in sorted(history)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def handle(self):
        with suppress(ConnectionResetError):  # a client that ended
            super().handle()

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        self.server.requests += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer = {}
        if self.path.endswith("/file_stream"):
            run = self.server.runs[self.path.split("/")[-2]]
            for name, part in (json.loads(body).get("files") or {}).items():
                if name == "wandb-history.jsonl":
                    for number, line in enumerate(part["content"]):
                        assert part["offset"] + number not in run["history"]
                        run["history"][part["offset"] + number] = line
                if name == "wandb-summary.json":
                    run["summary"] = json.loads(part["content"][-1])
        elif self.path == "/graphql":
            request = json.loads(body)
            answer = {"data": self.graphql(request["query"], request.get("variables") or {})}
        content = json.dumps(answer).encode()
        if self.path.startswith("/stored/"):
            name = unquote(self.path.removeprefix("/stored/"))
            if self.command == "PUT":
                self.server.artifacts.files[name] = body
            content = self.server.artifacts.files[name]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET = do_POST  # noqa: N815

    def graphql(self, query: str, variables: dict) -> dict:
        project = {"id": "p", "name": "deeper", "entity": {"id": "e", "name": "someone"}}
        if "RunResumeStatus" in query:
            run = self.server.runs.get(variables["name"])
            return {"model": {**project, "bucket": run and self.bucket(variables["name"], run)}}
        if "UpsertBucket" in query:
            new = {"history": {}, "summary": {}, "variables": {}}
            run = self.server.runs.setdefault(variables["name"], new)
            run["variables"] |= {k: v for k, v in variables.items() if v is not None}
            bucket = {**self.bucket(variables["name"], run), "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": not run["history"]}}
        if "CreateRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.server.url}/upload"}
                for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if "upsertView" in query:
            number = variables["id"] or f"report{len(self.server.reports)}"
            self.server.reports[number] = variables
            place = {"id": "p", "name": "deeper", "entityName": "someone"}
            view = {
                **{"id": number, "type": "runs", "name": number, "project": place},
                **{name: variables[name] for name in ("displayName", "description", "spec")},
                "updatedAt": "2026-01-01T00:00:00",
            }
            return {"upsertView": {"view": view, "inserted": not variables["id"]}}
        if "ProjectInternalId" in query:
            return {"project": {"id": "p", "internalId": "p"}}
        if "GetProjects" in query:
            node = {"__typename": "Project", "id": "p", "name": "deeper", "entityName": "someone"}
            node |= {"createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}
            page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
            return {"models": {"pageInfo": page, "edges": [{"node": node}]}}
        if "NotifyScriptableRunAlert" in query:
            self.server.alerts.append(variables)
            return {"notifyScriptableRunAlert": {"success": True}}
        about_artifacts = self.server.artifacts.graphql(query, variables)
        if about_artifacts is not None:
            return about_artifacts
        if "query Viewer" in query or "GetDefaultEntity" in query:
            teams = {"edges": [{"node": {"name": "someone"}}]}
            return {
                "viewer": {"id": "u", "entity": "someone", "username": "someone", "teams": teams,
                           "email": "someone@lab.org", "flags": "{}"}
            }  # fmt: skip
        return {}

    @staticmethod
    def bucket(name: str, run: dict) -> dict:
        tail = [run["history"][max(run["history"])]] if run["history"] else []
        return {
            "id": name,
            "name": name,
            "displayName": name,
            "summaryMetrics": json.dumps(run["summary"]),
            "logLineCount": 0,
            "historyLineCount": len(run["history"]),
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "wandbConfig": '{"t": 1}',  # what tells a begun run from an empty one
        }


@contextmanager
def serving():
    """Run a server on this machine."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def offline_records(path: Path) -> list:
    """Return the records of the newest offline file in a run directory.

    The file is a LevelDB log: blocks of 32 KiB of chunks, each with checksum, length and type.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    file = max(
        (path / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns
    )
    content, place, records, begun = file.read_bytes(), 7, [], b""
    assert content.startswith(b":W&B")
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last chunk
            record = Record()
            record.ParseFromString(begun)
            records.append(record)
            begun = b""
    return records


def offline_rows(path: Path) -> list[dict]:
    """Return the rows of the history in the newest offline file."""
    return [
        {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in record.history.item
        }
        for record in offline_records(path)
        if record.WhichOneof("record_type") == "history"
    ]
