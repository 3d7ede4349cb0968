"""A process of its own with the real Hub client in it, which reads ``HF_ENDPOINT`` and others only when imported.

``HubClient`` starts the process once and asks it one thing after the other; the bottom half is what runs there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

import hear_byols

ROOT = Path(__file__).resolve().parents[1]


class HubClient:
    """The test's side.

    Args:
        home: folder of both caches.
        endpoint: the Hub's address.
        env: further environment variables of the process.
    """

    def __init__(self, home: Path, endpoint: str, **env: str) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HEAR_BYOLS_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home / "hf"),
            "HEAR_BYOLS_HOME": str(home / "ours"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "NO_PROXY": "*",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**kept, **settings, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, action: str, **arguments: Any) -> dict[str, Any]:
        """Ask and wait: ``{"value": ...}``, or ``{"error": class name, "message": ...}``."""
        self._process.stdin.write(json.dumps({"action": action, **arguments}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def value(self, action: str, **arguments: Any) -> Any:
        """Ask for something that must succeed."""
        answer = self.ask(action, **arguments)
        assert "value" in answer, answer
        return answer["value"]

    def error(self, action: str, **arguments: Any) -> tuple[str, str]:
        """Ask for something that must fail: class name and message of the error."""
        answer = self.ask(action, **arguments)
        assert "error" in answer, answer
        return answer["error"], answer["message"]

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def _locate(spec: str) -> str:
    from hear_byols.weights.locate import locate

    return str(locate(spec).path)


def _vector(model: Any) -> list[float]:
    return model.scene_embeddings(torch.linspace(-1, 1, 16000)[None])[0].tolist()


def _load(spec: str) -> list[float]:
    return _vector(hear_byols.load_model(spec))


def _pretrained(name: str, revision: str | None = None) -> list[float]:
    return _vector(hear_byols.from_pretrained(name, revision=revision))


def _auto(name: str) -> list[float]:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    return model(torch.linspace(-1, 1, 16000)[None]).pooler_output[0].tolist()


def _push(spec: str, repo: str, branch: str) -> str:
    model = hear_byols.from_pretrained(spec)
    if branch != "main":
        return model.push_to_hub(repo, branch=branch)
    with tempfile.TemporaryDirectory() as folder:
        return model.save_pretrained(folder, push_to_hub=True, repo_id=repo)


def _publish(argv: list[str]) -> int:
    from hear_byols.cli.publish import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["publish", *argv])
    return args.run(args)


def _forbid_sockets() -> None:
    """From now on any connection is an error of a kind that nothing handles."""

    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse


def _set_env(**values: str | None) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _serve() -> None:
    time.sleep = lambda _: None  # the client waits up to 23 s before it gives up
    actions = {name.removeprefix("_"): value for name, value in globals().items() if name.startswith("_")}
    for line in sys.stdin:
        request = json.loads(line)
        action = actions[request.pop("action")]
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                answer = {"value": action(**request)}
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps({**answer, "printed": printed.getvalue()}), flush=True)


if __name__ == "__main__":
    _serve()
