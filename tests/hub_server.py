"""A local server that speaks as much of the Hugging Face Hub's protocol as its client uses, and serves plain files.

It answers on 127.0.0.1 from threads of the test process, counts every request, and can be told to misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKENS = {"hf_ana": {"ana", "lab"}, "hf_reader": set()}  # token -> owners it may write for
_CHUNK = 1 << 14


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Repo:
    """A model repository: every commit is the dictionary of its files."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        content = {**self.commits.get(self.refs.get(branch, ""), {}), **files}
        oid = hashlib.sha1(f"{len(self.commits)} {sorted(content)}".encode()).hexdigest()
        self.commits[oid] = content
        self.refs[branch] = oid
        return oid

    def find(self, revision: str) -> str:
        """The commit of a branch or of its own name."""
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid


@dataclass
class Fault:
    """A misbehaviour of every request whose path holds ``path``.

    ``cut``: the connection breaks after half of the content; ``short``: less content than the size announced elsewhere;
    ``wrong``: other bytes of the same size; ``slow``: the second half takes a second a chunk; a number: that status.
    """

    path: str
    kind: str | int


class RefusedError(Exception):
    """What a request is answered that is not granted: a status, a message, the Hub's code, fields of the JSON."""

    def __init__(self, status: int, message: str, code: str = "", **fields: str) -> None:
        self.status = status
        self.headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.content = json.dumps({"error": message, **fields}).encode()


class HubServer:
    """The server and its content; a context manager.

    Attributes:
        url: where it listens.
        repos: Hub repositories by ``owner/name``.
        files: plain files by path, under ``/files/``.
        faults: misbehaviours in force.
        requests: (method, path) -> number of requests.
        logins: names and passwords that came with them.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        self.uploads: dict[str, bytes] = {}
        self.logins: list[str] = []
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.daemon_threads = True
        self._http.hub = self
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.cdn_url = self.url.replace("127.0.0.1", "localhost")  # the client treats another host differently

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def count(self, text: str = "") -> int:
        """Number of requests whose path holds a text."""
        return sum(n for (_, path), n in self.requests.items() if text in path)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer any request: what its route returns is JSON, unless the route has sent something itself."""
        path = urlsplit(self.path).path
        self.body = self._read_body()
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        self.token = login if kind == "Bearer" else ""
        with self.hub.lock:
            self.hub.requests[self.command, path] += 1
            if kind == "Basic":
                self.hub.logins.append(base64.b64decode(login).decode())
        self.fault = next((fault.kind for fault in self.hub.faults if fault.path in path), None)
        try:
            if isinstance(self.fault, int):
                raise RefusedError(self.fault, "told to fail")
            handle, found = next((h, found) for pattern, h in _ROUTES if (found := re.fullmatch(pattern, path)))
            answer = handle(self, *map(unquote, found.groups()))
        except RefusedError as refusal:
            self._send(refusal.content, refusal.status, refusal.headers)
        else:
            if answer is not None:
                self._send(json.dumps(answer).encode())

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - names of http.server

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Send an answer, with whatever fault is in force; what was cut off is not to be had."""
        headers = dict(headers or {})
        if self.fault == "wrong":
            content = bytes(byte ^ 1 for byte in content)
        if self.fault == "short":
            content = content[: len(content) // 2]
        begin, end = 0, len(content) // 2 if self.fault == "cut" else len(content)
        if status == 200 and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            status, begin = 206, int(asked[1])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content) - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.close_connection = self.fault == "cut"
        try:
            for i in range(begin, end, _CHUNK):
                self.wfile.write(content[i : min(i + _CHUNK, end)])
                self.wfile.flush()
                if self.fault == "slow" and i > len(content) // 2:
                    time.sleep(1)
        except OSError:  # the client was killed
            self.close_connection = True

    def unknown(self) -> None:
        raise RefusedError(404, f"no route for {self.command} {self.path}")

    # Who may do what

    def _check_owner(self, name: str) -> None:
        """Refuse those who may not write for the owner of a repository."""
        if self.token not in TOKENS:
            raise RefusedError(401, "Invalid username or password.")
        if name.split("/")[0] not in TOKENS[self.token]:
            raise RefusedError(403, f"You don't have the rights to write to {name!r}")

    def _repo(self, name: str, write: bool = False) -> Repo:
        if write:
            self._check_owner(name)
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and name.split("/")[0] not in TOKENS.get(self.token, ())):
            raise RefusedError(404 if self.token else 401, "Repository not found", "RepoNotFound")
        return repo

    # Reading

    def plain(self, name: str) -> None:
        if name not in self.hub.files:
            raise RefusedError(404, "no such file")
        self._send(self.hub.files[name])

    def resolve(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name)
        oid = repo.find(revision)
        content = repo.commits[oid].get(file)
        if content is None:
            raise RefusedError(404, "not found", "EntryNotFound")
        headers = {"X-Repo-Commit": oid}
        if not _is_large(file):
            return self._send(content, 200, headers | {"ETag": f'"{git_blob(content)}"'})
        digest = sha256(content)  # git-lfs: elsewhere, under its sha256
        self.hub.uploads[digest] = content
        headers |= {"Location": f"{self.hub.cdn_url}/cdn/{digest}", "ETag": f'"{git_blob(b"pointer")}"'}
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"'}
        return self._send(b"", 302, headers)

    def cdn(self, digest: str) -> None:
        self._send(self.hub.uploads[digest])

    def info(self, name: str, revision: str = "main") -> dict[str, Any]:
        repo = self._repo(name)
        oid = repo.find(revision)
        siblings = [{"rfilename": file} for file in repo.commits[oid]]
        return {"_id": "0", "id": name, "sha": oid, "private": repo.private, "tags": [], "siblings": siblings}

    # Writing

    def create_repo(self) -> dict[str, Any]:
        wish = json.loads(self.body)
        name = f"{wish.get('organization') or self.token.removeprefix('hf_')}/{wish['name']}"
        self._check_owner(name)
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repos:
            raise RefusedError(409, "You already created it", url=url)
        repo = Repo(private=wish.get("visibility") == "private" or bool(wish.get("private")))
        repo.commit({".gitattributes": b"*.pth filter=lfs\n"})
        self.hub.repos[name] = repo
        return {"url": url, "name": name, "id": name}

    def create_branch(self, name: str, branch: str) -> dict[str, Any]:
        repo = self._repo(name, write=True)
        repo.refs.setdefault(branch, repo.refs["main"])
        return {}

    def validate_yaml(self) -> dict[str, Any]:
        return {"errors": [], "warnings": []}

    def preupload(self, name: str, revision: str) -> dict[str, Any]:
        repo = self._repo(name, write=True)
        old, answers = repo.commits[repo.find(revision)], []
        for path in (file["path"] for file in json.loads(self.body)["files"]):
            mode, digest = ("lfs", sha256) if _is_large(path) else ("regular", git_blob)
            known = digest(old[path]) if path in old else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known})
        return {"files": answers}

    def lfs_batch(self, name: str) -> dict[str, Any]:
        self._repo(name, write=True)
        objects = json.loads(self.body)["objects"]
        for item in objects:
            item["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, oid: str) -> dict[str, Any]:
        if sha256(self.body) != oid:
            raise RefusedError(400, "content and oid differ")
        self.hub.uploads[oid] = self.body
        return {}

    def commit(self, name: str, revision: str) -> dict[str, Any]:
        repo, files = self._repo(name, write=True), {}
        repo.find(revision)
        for item in map(json.loads, self.body.splitlines()):
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        oid = repo.commit(files, revision)
        return {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "hookOutput": ""}


def _is_large(file: str) -> bool:
    return file.endswith((".pth", ".safetensors"))


_NAME = r"([^/]+/[^/]+)"
_ROUTES = [
    (r"/files/(.+)", _Handler.plain),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"/cdn/(.+)", _Handler.cdn),
    (rf"/api/models/{_NAME}", _Handler.info),
    (rf"/api/models/{_NAME}/revision/([^/]+)", _Handler.info),
    (r"/api/repos/create", _Handler.create_repo),
    (rf"/api/models/{_NAME}/branch/(.+)", _Handler.create_branch),
    (r"/api/validate-yaml", _Handler.validate_yaml),
    (rf"/api/models/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/lfs/([0-9a-f]+)", _Handler.lfs_put),
    (rf"/api/models/{_NAME}/commit/([^/]+)", _Handler.commit),
    (".*", _Handler.unknown),
]
