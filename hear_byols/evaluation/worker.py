"""Embeds one task with one model in a process of its own, so that a crash takes nothing else with it.

    python -m hear_byols.evaluation.worker REQUEST

The request is JSON on the command line; see :func:`embed_apart`. Standard input is a pipe that nothing is written to:
it closes when the process that asked ends, however it does, and this one ends too.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

from hear_byols._util.files import atomic_path
from hear_byols.errors import HearByolsError
from hear_byols.evaluation.embeddings import cache_folder, embed_task, is_complete
from hear_byols.evaluation.models import ModelSpec
from hear_byols.evaluation.tasks import Task, read_task


class ModelCrashError(HearByolsError, RuntimeError):
    """A model that failed while it was loaded or embedding; the message has its own error or the signal."""


def embed_apart(part: ModelSpec, task: Task, cache: Path, *, device: str = "auto", progress: bool = False) -> Path:
    """Compute the embeddings of a task in another process, and return the folder of the cache that holds them all.

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
        environment = {**os.environ, "PYTHONPATH": paths}
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE) as process:
            status = process.wait()
        content = json.loads(answer.read_text(encoding="utf-8")) if answer.is_file() else {}
    if status == 0:
        return Path(content["folder"])
    if status < 0:
        name = signal.Signals(-status).name
        raise ModelCrashError(f"the process was ended by {name}{' (out of memory?)' * (name == 'SIGKILL')}")
    raise ModelCrashError(content.get("error") or f"the process ended with status {status}")


def known_folder(part: ModelSpec, task: Task, cache: Path) -> Path | None:
    """Folder of the cache that holds all embeddings of a part and task; None if there is none.

    Raises:
        TaskError: the task has no audio at the model's rate.
    """
    note = _rate_note(part, cache)
    if not note.is_file():
        return None
    folder = cache_folder(cache, part, task, int(note.read_text(encoding="ascii")))
    return folder if is_complete(folder, task) else None


def _rate_note(part: ModelSpec, cache: Path) -> Path:
    """Where the cache notes a model's sample rate, which tells what audio to look at without loading the model."""
    return cache / "rates" / f"{part.name}-{part.identity()}.txt"


def main(request: str) -> int:
    """Answer one request; the exit status is 0 if all embeddings are there now."""
    asked = json.loads(request)
    answer = Path(asked["answer"])
    try:
        task, part = read_task(asked["task"]), ModelSpec(*asked["part"])
        module, model = part.load()
        cache = Path(asked["cache"])
        folder = cache_folder(cache, part, task, int(model.sample_rate))
        embed_task(module, model, task, folder, device=asked["device"], progress=asked["progress"])
        with atomic_path(_rate_note(part, cache)) as note:
            note.write_text(str(model.sample_rate), encoding="ascii")
        result = {"folder": str(folder)}
    except Exception as error:  # a foreign model may raise anything
        kind = ""
        if not isinstance(error, HearByolsError):
            traceback.print_exc()
            kind = f"{type(error).__name__}: "
        result = {"error": f"{kind}{error}"}
    answer.write_text(json.dumps(result), encoding="utf-8")
    return int("error" in result)


def end_with_parent() -> None:
    """Wait for the end of standard input, then end this process; what was finished is on disk."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1]))
