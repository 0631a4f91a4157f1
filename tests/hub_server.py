"""A local HTTP server that answers as the Hugging Face hub does, with the files of some folders."""

import base64
import contextlib
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "1" * 40


@dataclass
class Hub:
    """What the server has, and was asked for.

    Attributes:
        address: Its address, for ``HF_ENDPOINT``.
        repositories: Folder of each repository.
        gated: Repositories whose licence must be accepted first.
        requests: Paths that it was asked for.
        is_open: Whether anyone may write; otherwise uploads are answered as without a token.
        created: What it was asked to create.
        uploaded: Content of the uploaded files, by repository and name.
    """

    address: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    is_open: bool = True
    created: list[dict] = field(default_factory=list)
    uploaded: dict[str, dict[str, bytes]] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
        self.hub.requests.append(path)
        asked = re.fullmatch(rf"(?:api/models/)?([^/]+/[^/]+)(?:/resolve/(?:main|{COMMIT})/(.+)|(?:/revision/main)?)", path)
        repository, file = asked.groups() if asked else ("", None)
        folder = self.hub.repositories.get(repository)
        if repository in self.hub.gated:
            return self._fail(403, "GatedRepo")
        if asked and folder is None:
            return self._fail(401, "RepoNotFound")  # as the hub answers anyone who is not logged in
        if not asked or (file and not (folder / file).is_file()):
            return self._fail(404, "EntryNotFound")
        content = (folder / file).read_bytes() if file else json.dumps({"id": repository, "sha": COMMIT}).encode()
        self._head(200, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Content-Length": str(len(content))})
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def do_POST(self):
        """Create a repository, choose how files travel (all inside the commit), and take a commit."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.hub.requests.append(path)
        if path == "api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if not self.hub.is_open:
            return self._fail(401, "")
        if path == "api/repos/create":
            asked = json.loads(body)
            self.hub.created.append(asked)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            return self._answer({"url": f"{self.hub.address}/{name}", "name": name})
        repository = re.fullmatch(r"api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
        if repository is None:
            return self._fail(404, "EntryNotFound")
        if repository[2] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._answer({"files": files})
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        files = {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"}
        self.hub.uploaded[repository[1]] = files
        where = f"{self.hub.address}/{repository[1]}"
        self._answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{where}/commit/{COMMIT}"})

    def _answer(self, value):
        content = json.dumps(value).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        self.wfile.write(content)

    def log_message(self, *_):
        pass

    def _fail(self, status, code):
        self._head(status, {"X-Error-Code": code, "X-Error-Message": code, "Content-Length": "0"})

    def _head(self, status, headers):
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of this machine as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
