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


@dataclass
class Fault:
    """A misbehaviour of every request whose path holds ``path``.

    ``cut``: the connection breaks after half of the content; ``short``: less content than the size announced elsewhere;
    ``wrong``: other bytes of the same size; ``slow``: the second half takes a second a chunk; a number: that status.
    """

    path: str
    kind: str | int


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

    def count(self, text: str = "", method: str = "") -> int:
        """Number of requests whose path holds a text."""
        return sum(n for (verb, path), n in self.requests.items() if text in path and method in verb)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.body = self._read_chunks()
        path = urlsplit(self.path).path
        with self.hub.lock:
            self.hub.requests[self.command, path] += 1
            kind, _, login = self.headers.get("Authorization", "").partition(" ")
            if kind == "Basic":
                self.hub.logins.append(base64.b64decode(login).decode())
        status = next((f.kind for f in self.hub.faults if f.path in path and isinstance(f.kind, int)), None)
        if status is not None:
            return self._send_error(status, "", "told to fail")
        for pattern, handle in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                return handle(self, *(unquote(group) for group in match.groups()))
        return self._send_error(404, "", f"no route for {self.command} {path}")

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    # Answers

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send_error(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **headers})

    def _send_file(self, content: bytes) -> None:
        """Serve bytes, with whatever fault is in force; what was cut off is not to be had."""
        path = urlsplit(self.path).path
        kind = next((f.kind for f in self.hub.faults if f.path in path), None)
        if kind == "wrong":
            content = bytes(byte ^ 1 for byte in content)
        if kind == "short":
            content = content[: len(content) // 2]
        first = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        begin = int(first[1]) if first else 0
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if first:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(content) // 2 if kind == "cut" else len(content)
        self.close_connection = kind == "cut"
        for i in range(begin, end, _CHUNK):
            try:
                self.wfile.write(content[i : min(i + _CHUNK, end)])
                self.wfile.flush()
            except OSError:  # the client was killed
                self.close_connection = True
                return
            if kind == "slow" and i > len(content) // 2:
                time.sleep(1)

    # Who may do what

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _may_write(self, owner: str) -> bool:
        if self._token() not in TOKENS:
            self._send_error(401, "", "Invalid username or password.")
            return False
        if owner not in TOKENS[self._token()]:
            self._send_error(403, "", f"You don't have the rights to write for {owner!r}")
            return False
        return True

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and name.split("/")[0] not in TOKENS.get(self._token(), ())):
            self._send_error(401 if not self._token() else 404, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        oid = repo.refs.get(revision, revision)
        if oid not in repo.commits:
            self._send_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return oid

    # Reading

    def plain(self, name: str) -> None:
        if name not in self.hub.files:
            return self._send_error(404, "", "no such file")
        return self._send_file(self.hub.files[name])

    def resolve(self, name: str, revision: str, file: str) -> None:
        if (repo := self._repo(name)) is None or (oid := self._commit_of(repo, revision)) is None:
            return None
        content = repo.commits[oid].get(file)
        headers = {"X-Repo-Commit": oid}
        if content is None:
            return self._send(404, b"", headers | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "not found"})
        if _is_large(file):  # git-lfs: elsewhere, under its sha256
            digest = sha256(content)
            self.hub.uploads[digest] = content
            headers |= {
                "Location": f"{self.hub.cdn_url}/cdn/{digest}",
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{digest}"',
                "ETag": f'"{git_blob(b"pointer")}"',
            }
            return self._send(302, b"", headers)
        self.hub.uploads[git_blob(content)] = content
        return self._send(200, content, headers | {"ETag": f'"{git_blob(content)}"'})

    def cdn(self, digest: str) -> None:
        self._send_file(self.hub.uploads[digest])

    def info(self, name: str, revision: str = "main") -> None:
        if (repo := self._repo(name)) is None or (oid := self._commit_of(repo, revision)) is None:
            return
        siblings = [{"rfilename": file} for file in repo.commits[oid]]
        self._send_json({"_id": "0", "id": name, "sha": oid, "private": repo.private, "tags": [], "siblings": siblings})

    def whoami(self) -> None:
        if self._token() not in TOKENS:
            return self._send_error(401, "", "Invalid username or password.")
        return self._send_json({"type": "user", "name": self._token().removeprefix("hf_"), "orgs": []})

    # Writing

    def create_repo(self) -> None:
        wish = json.loads(self.body)
        owner = wish.get("organization") or self._token().removeprefix("hf_")
        if not self._may_write(owner):
            return None
        name = f"{owner}/{wish['name']}"
        if name in self.hub.repos:
            return self._send_json({"error": "You already created it", "url": f"{self.hub.url}/{name}"}, 409)
        repo = Repo(private=wish.get("visibility") == "private" or bool(wish.get("private")))
        repo.commit({".gitattributes": b"*.pth filter=lfs\n"})
        self.hub.repos[name] = repo
        return self._send_json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def create_branch(self, name: str, branch: str) -> None:
        if not self._may_write(name.split("/")[0]) or (repo := self._repo(name)) is None:
            return None
        if branch in repo.refs:
            return self._send_error(409, "", "Reference already exists")
        repo.refs[branch] = repo.refs["main"]
        return self._send_json({})

    def validate_yaml(self) -> None:
        self._send_json({"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        if not self._may_write(name.split("/")[0]) or (repo := self._repo(name)) is None:
            return
        if (oid := self._commit_of(repo, revision)) is None:
            return
        answers = []
        for file in json.loads(self.body)["files"]:
            old = repo.commits[oid].get(file["path"])
            large = _is_large(file["path"])
            known = None if old is None else sha256(old) if large else git_blob(old)
            mode = "lfs" if large else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known})
        self._send_json({"files": answers})

    def lfs_batch(self, name: str) -> None:
        if not self._may_write(name.split("/")[0]) or self._repo(name) is None:
            return
        actions = {"verify": {"href": f"{self.hub.url}/lfs-verify"}}
        objects = [
            {**item, "actions": {**actions, "upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
            for item in json.loads(self.body)["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if sha256(self.body) != oid:
            return self._send_error(400, "", "content and oid differ")
        self.hub.uploads[oid] = self.body
        return self._send(200, b"", {})

    def lfs_verify(self) -> None:
        item = json.loads(self.body)
        known = len(self.hub.uploads.get(item["oid"], b"")) == item["size"]
        self._send_json({}) if known else self._send_error(422, "", "not uploaded")

    def commit(self, name: str, revision: str) -> None:
        if not self._may_write(name.split("/")[0]) or (repo := self._repo(name)) is None:
            return None
        if revision not in repo.refs:
            return self._send_error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = {}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        oid = repo.commit(files, revision)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        return self._send_json({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def _is_large(file: str) -> bool:
    return file.endswith((".pth", ".safetensors"))


_NAME = r"([^/]+/[^/]+)"
_ROUTES = [
    (r"/files/(.+)", _Handler.plain),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"/cdn/(.+)", _Handler.cdn),
    (rf"/api/models/{_NAME}", _Handler.info),
    (rf"/api/models/{_NAME}/revision/([^/]+)", _Handler.info),
    (r"/api/whoami-v2", _Handler.whoami),
    (r"/api/repos/create", _Handler.create_repo),
    (rf"/api/models/{_NAME}/branch/(.+)", _Handler.create_branch),
    (r"/api/validate-yaml", _Handler.validate_yaml),
    (rf"/api/models/{_NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/lfs/([0-9a-f]+)", _Handler.lfs_put),
    (r"/lfs-verify", _Handler.lfs_verify),
    (rf"/api/models/{_NAME}/commit/([^/]+)", _Handler.commit),
]
