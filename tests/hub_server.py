"""A local HTTP server that answers as the Hugging Face hub does, with the files of some folders."""

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
    """

    address: str = ""
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)


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
