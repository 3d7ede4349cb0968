"""A process of its own with the real Hub client in it, which reads ``HF_ENDPOINT`` and others only when imported.

``HubClient`` starts the process once and asks it one thing after the other; the functions below it are what runs there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import hear_byols


class HubClient(ProcessPoolExecutor):
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
            "NO_PROXY": "*",
        }
        super().__init__(1, get_context("spawn"))
        with mock.patch.dict(os.environ, {**kept, **settings, **env}, clear=True):
            self.value("be_patient")  # the process starts

    def value(self, action: str, **arguments: Any) -> Any:
        """Ask for something that must succeed."""
        return self.submit(globals()[f"_{action}"], **arguments).result()

    def refused(self, action: str, error: type[Exception], *words: str, **arguments: Any) -> None:
        """Ask for something that must fail with an error of this class, whose message is one line with these words."""
        with pytest.raises(error) as caught:
            self.value(action, **arguments)
        assert type(caught.value) is error
        message = str(caught.value)
        assert [word for word in words if word not in message] == [], message
        assert "\n" not in message


def _be_patient() -> None:
    """Lose no time: the client waits up to 23 s before it gives up."""
    time.sleep = lambda _: None


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


def _publish(argv: list[str]) -> str:
    """Run the command, and return what it printed."""
    from hear_byols.cli.publish import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["publish", *argv])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert args.run(args) == 0
    return printed.getvalue().strip()


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
