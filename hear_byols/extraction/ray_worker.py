"""A worker of the engine ray: a process that loads the model once and embeds shards of the list of files."""

import json
import platform
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest
from hear_byols.errors import CheckpointError, HearByolsError
from hear_byols.extraction.extract import parameters_digest
from hear_byols.extraction.files import AudioFile
from hear_byols.extraction.formats import find_format
from hear_byols.extraction.groups import Group, embedded_groups, group_limits
from hear_byols.extraction.index import source_record
from hear_byols.hear import load_model

_GPU_THREADS = 4  # of a worker that has a GPU; one that has a core has one


@dataclass(frozen=True)
class WorkerTask:
    """What every worker needs to know; the same for all."""

    model: str  # what load_model takes, with absolute paths
    options: dict[str, Any]  # of load_model
    parameters: str  # digest of the driver's weights, so that all machines embed with the same
    timestamps: bool  # embed windows instead of whole files
    output: str  # the output folder, an absolute path


class Worker:
    """Embeds shards on ``"cpu"`` or ``"cuda"`` and writes their parts under hidden names."""

    def __init__(self, task: WorkerTask, device: str) -> None:
        self._task = task
        self._error = ""
        torch.set_num_threads(_GPU_THREADS if device == "cuda" else 1)
        try:
            model = load_model(task.model, **task.options)
            if parameters_digest(model) != task.parameters:
                raise CheckpointError(f"the weights of {task.model!r} are others on {platform.node()}")
            self._model = model.to(find_device(device))
        except HearByolsError as error:  # told by the first result: an exception here is tried again and again
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Embed shards; the result has a JSON text for each."""
        return {"result": [json.dumps(self._embed(json.loads(shard))) for shard in batch["shard"]]}

    def _embed(self, shard: list[list[str]]) -> dict[str, Any]:
        result: dict[str, Any] = {"parts": [], "failures": [], "error": self._error}
        if self._error:
            return result
        files = [AudioFile(name, Path(path), error) for name, path, error in shard]
        limits = group_limits(is_table=True, timestamps=self._task.timestamps)
        try:
            with closing(embedded_groups(self._model, files, self._task.timestamps, limits)) as groups:
                for group in groups:
                    result["failures"] += [(failure.name, failure.reason) for failure in group.failures]
                    if group.items:
                        result["parts"].append(self._write(group))
        except (HearByolsError, OSError) as error:
            result["error"] = str(error)
        return result

    def _write(self, group: Group) -> tuple[str, str, list[dict[str, Any]]]:
        """Write a part under a hidden name: its path, its digest, and its sources."""
        form = find_format("parquet")
        part = Path(self._task.output, "embeddings", f".{uuid.uuid4().hex}.part{form.suffix}")
        form.write(group.items, part)
        return str(part), file_digest(part), [source_record(clip) for clip in group.clips]
