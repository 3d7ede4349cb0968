"""A local server that speaks as much of the Hugging Face Hub's protocol as its client uses, and serves plain files.

It answers on 127.0.0.1 from threads of the test process, remembers every request, and can be told to misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN, OWNERS = "hf_ana", ("ana", "lab")  # the one token that is valid, and for whom it may write


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Repo:
    """A model repository: every commit is the dictionary of its files."""

    def __init__(self, files: dict[str, bytes], private: bool = False) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.commit(files)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        content = {**self.commits.get(self.refs.get(branch, ""), {}), **files}
        oid = hashlib.sha1(f"{len(self.commits)} {sorted(content)}".encode()).hexdigest()
        self.commits[oid] = content
        self.refs[branch] = oid
        return oid

    def find(self, revision: str = "main") -> str:
        """The commit of a branch or of its own name."""
        oid = self.refs.get(revision, revision)
        if oid not in self.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return oid


class RefusedError(Exception):
    """What a request is answered that is not granted: a status, a message, the Hub's code, fields of the JSON."""

    def __init__(self, status: int, message: str, code: str = "", **fields: str) -> None:
        super().__init__({"error": message, **fields}, status, {"X-Error-Message": message, "X-Error-Code": code})


class HubServer(ThreadingHTTPServer):
    """The server and its content; a context manager.

    Attributes:
        url: where it listens.
        repos: Hub repositories by ``owner/name``.
        files: plain files by path, under ``/files/``; among them, by their sha256, the large ones of repositories.
        faults: how requests whose path holds a text misbehave. ``cut``: the connection breaks after half of the
            content; ``short``: less content than the size announced elsewhere; ``wrong``: other bytes of the same size;
            a number: that status.
        requests: method and path of every request.
        logins: names and passwords that came with them.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, str | int] = {}
        self.requests: list[str] = []
        self.logins: list[str] = []

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.server.requests.append(f"{self.command} {path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        self.token = login if kind == "Bearer" else ""
        if kind == "Basic":
            self.server.logins.append(base64.b64decode(login).decode())
        self.fault = next((fault for part, fault in self.server.faults.items() if part in path), None)
        parts = [unquote(part) for part in path.split("/")[1:]]
        try:
            if isinstance(self.fault, int):
                raise RefusedError(self.fault, "told to fail")
            answer = self._read(parts) if self.command in ("GET", "HEAD") else self._write(parts)
        except RefusedError as refusal:
            answer = refusal.args
        self._send(*answer if isinstance(answer, tuple) else (answer,))

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 - names of http.server

    def _send(self, content: bytes | dict[str, Any], status: int = 200, headers: Mapping[str, str] = {}) -> None:
        """Send an answer, with whatever fault is in force; what was cut off is not to be had."""
        whole = content if isinstance(content, bytes) else json.dumps(content).encode()
        half = whole[: len(whole) // 2]
        sent = {"wrong": bytes(byte ^ 1 for byte in whole), "short": half, "cut": half}.get(self.fault, whole)
        begin, end = 0, len(whole if self.fault == "cut" else sent)
        if status == 200 and (asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            status, begin = 206, int(asked[1])
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{end}"}
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(end - begin)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent[begin:])

    def _repo(self, name: str) -> Repo:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and self.token != TOKEN):
            raise RefusedError(404 if self.token else 401, "Repository not found", "RepoNotFound")
        return repo

    def _read(self, parts: list[str]) -> Any:
        """Content, or with it a status and headers."""
        match parts:
            case ["files", *names] if "/".join(names) in self.server.files:
                return self.server.files["/".join(names)]
            case [owner, name, "resolve", revision, *names]:
                return self._resolve(self._repo(f"{owner}/{name}"), revision, "/".join(names))
            case ["api", "models", owner, name, *rest] if rest[:1] in ([], ["revision"]):
                repo = self._repo(f"{owner}/{name}")
                return {"id": f"{owner}/{name}", "sha": repo.find(*rest[1:]), "private": repo.private}
        raise RefusedError(404, f"no route to {self.path}")

    def _resolve(self, repo: Repo, revision: str, file: str) -> tuple[bytes, int, dict[str, str]]:
        oid = repo.find(revision)
        content = repo.commits[oid].get(file)
        if content is None:
            raise RefusedError(404, "not found", "EntryNotFound")
        if not file.endswith((".pth", ".safetensors")):
            return content, 200, {"X-Repo-Commit": oid, "ETag": f'"{git_blob(content)}"'}
        digest = sha256(content)  # git-lfs: on another host, as the client sees it
        self.server.files[digest] = content
        headers = {"X-Repo-Commit": oid, "Location": f"http://localhost:{self.server.server_port}/files/{digest}"}
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"', "ETag": '"of the pointer"'}
        return b"", 302, headers

    def _write(self, parts: list[str]) -> dict[str, Any]:
        match parts:
            case ["api", "validate-yaml"]:
                return {"errors": [], "warnings": []}
            case ["files", digest] if digest == sha256(self.body):
                self.server.files[digest] = self.body
                return {}
            case ["api", "repos", "create"]:
                return self._create(json.loads(self.body))
            case ["api", "models", owner, name, action, branch]:
                self._check_owner(owner)
                return self._change(f"{owner}/{name}", action, branch)
            case [owner, name, "info", "lfs", "objects", "batch"]:
                self._check_owner(owner)
                objects = json.loads(self.body)["objects"]
                for item in objects:
                    item["actions"] = {"upload": {"href": f"{self.server.url}/files/{item['oid']}"}}
                return {"transfer": "basic", "objects": objects}
        raise RefusedError(404, f"no route to {self.path}")

    def _check_owner(self, owner: str) -> None:
        """Refuse those who may not write for the owner of a repository."""
        if self.token != TOKEN:
            raise RefusedError(401, "Invalid username or password.")
        if owner not in OWNERS:
            raise RefusedError(403, f"You don't have the rights to write for {owner!r}")

    def _create(self, wish: dict[str, Any]) -> dict[str, Any]:
        self._check_owner(wish["organization"])
        name = f"{wish['organization']}/{wish['name']}"
        url = f"{self.server.url}/{name}"
        if name in self.server.repos:
            raise RefusedError(409, "You already created it", url=url)
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.server.repos[name] = Repo({".gitattributes": b"* filter=lfs\n"}, private)
        return {"url": url}

    def _change(self, name: str, action: str, branch: str) -> dict[str, Any]:
        """Make a branch, tell which files are there already, or commit what was uploaded."""
        repo = self._repo(name)
        if action == "branch":
            repo.refs.setdefault(branch, repo.refs["main"])
            return {}
        old = repo.commits[repo.find(branch)]
        if action == "preupload":
            files = [file["path"] for file in json.loads(self.body)["files"]]
            known = {file: sha256(content) for file, content in old.items()}
            always = {"uploadMode": "lfs", "shouldIgnore": False}
            return {"files": [{"path": file, "oid": known.get(file), **always} for file in files]}
        lines = [json.loads(line) for line in self.body.splitlines()]
        values = [line["value"] for line in lines if line["key"] == "lfsFile"]
        oid = repo.commit({value["path"]: self.server.files[value["oid"]] for value in values}, branch)
        url = f"{self.server.url}/{name}/commit/{oid}"
        return {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""}
