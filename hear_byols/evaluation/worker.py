"""Embeds one task with one model in a process of its own, so that a crash takes nothing else with it.

    python -m hear_byols.evaluation.worker REQUEST

The request is JSON on the command line; see :func:`embed_apart`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from hear_byols.errors import HearByolsError
from hear_byols.evaluation.embeddings import embed_task
from hear_byols.evaluation.models import Part
from hear_byols.evaluation.store import cache_folder, is_complete
from hear_byols.evaluation.tasks import Task, read_task

_RATES = (16000, 22050, 32000, 44100, 48000)


class ModelCrashError(HearByolsError, RuntimeError):
    """A model that failed while it was loaded or embedding; the message has its own error or the signal."""


def embed_apart(part: Part, task: Task, cache: Path, *, device: str = "auto", progress: bool = False) -> Path:
    """Compute the embeddings of a task in another process.

    Returns:
        Folder of the cache that now holds all of them.

    Raises:
        ModelCrashError: the process failed; what it had finished is kept.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch, "answer.json")
        request = {
            "part": [part.module, part.weights, part.options],
            "task": str(task.folder.resolve()),
            "cache": str(cache.resolve()),
            "device": device,
            "progress": progress,
            "answer": str(answer),
        }
        paths = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
        command = [sys.executable, "-m", "hear_byols.evaluation.worker", json.dumps(request)]
        status = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False).returncode
        content = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    if status == 0:
        return Path(content["folder"])
    if status < 0:
        name = signal.Signals(-status).name
        raise ModelCrashError(f"the process was ended by {name}{' (out of memory?)' * (name == 'SIGKILL')}")
    raise ModelCrashError(content.get("error") or f"the process ended with status {status}")


def known_folder(part: Part, task: Task, cache: Path) -> Path | None:
    """Folder of the cache that holds all embeddings of a part and task, at whichever rate; None if there is none."""
    for rate in _RATES:
        if (task.folder / str(rate)).is_dir():
            folder = cache_folder(cache, part, task, rate)
            if is_complete(folder, task):
                return folder
    return None


def main(request: str) -> int:
    """Answer one request; the exit status is 0 if all embeddings are there now."""
    asked = json.loads(request)
    answer = Path(asked["answer"])
    try:
        task, part = read_task(asked["task"]), Part(*asked["part"])
        module, model = part.load()
        folder = cache_folder(Path(asked["cache"]), part, task, int(model.sample_rate))
        embed_task(module, model, task, folder, device=asked["device"], progress=asked["progress"])
    except Exception as error:  # a foreign model may raise anything
        if not isinstance(error, HearByolsError):
            traceback.print_exc()
        kind = "" if isinstance(error, HearByolsError) else f"{type(error).__name__}: "
        answer.write_text(json.dumps({"error": f"{kind}{error}"}), encoding="utf-8")
        return 1
    answer.write_text(json.dumps({"folder": str(folder)}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
