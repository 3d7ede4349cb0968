"""``hear-byols embed --engine ray``: what ``embed_to_folder`` does, by workers on Ray Data (``docs/deploying.md``).

A worker loads the model once, embeds shards of the list of files, and writes finished parts under hidden names. Only
the driver, which holds the output folder, gives a part its name and records it. So whatever is computed twice because
a worker died stands in the output once.
"""

import json
import logging
import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hear_byols._util.device import find_device
from hear_byols._util.files import file_digest
from hear_byols._util.imports import require
from hear_byols.errors import CheckpointError, HearByolsError, OptionError, OutputError
from hear_byols.extraction.extract import ProgressBar, Report, fill, parameters_digest, run_settings
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.formats import find_format
from hear_byols.extraction.groups import Advance, Failure, embedded_groups, group_limits
from hear_byols.extraction.index import source_record
from hear_byols.extraction.output import OutputFolder, open_output
from hear_byols.hear import load_model, split_spec
from hear_byols.weights.locate import existing_file

SHARD_FILES = 512
SHARD_BYTES = 64 << 20  # of audio files: half an hour of 16-bit WAV at 16 kHz, hours of compressed audio
_SHARDS_PER_WORKER = 8  # at least, so that none waits long for the last
_GPU_THREADS = 4  # of a worker that has a GPU; one that has a core has one
_STORE_BYTES = 128 << 20  # what passes between driver and workers is names and records


def embed_with_ray(
    paths: Sequence[PathLike],
    output: PathLike,
    *,
    model: PathLike = "",
    timestamps: bool = False,
    device: str = "auto",
    relative_to: PathLike | None = None,
    overwrite: bool = False,
    progress: bool = False,
    address: str | None = None,
    workers: int | None = None,
    **options: Any,
) -> Report:
    """Embed audio files and folders into Parquet parts, as ``embed_to_folder(format="parquet")`` does, with workers.

    Killed at any moment and called again with the same arguments, here or without Ray, it continues where it was. A
    Ray that runs already in this process is used and left running. What is not listed here is as there.

    Args:
        paths: files, folders, or ``"-"`` for a list on standard input; all machines must see them under these paths.
        output: folder for ``manifest.json``, ``index.jsonl`` and ``embeddings/``, which all machines must see too.
        model: what ``load_model`` takes; every worker loads it.
        device: ``"auto"`` (a GPU for each worker if the cluster has any, else a core), ``"cpu"`` or ``"cuda"``.
        address: of a running cluster, or ``"auto"``; by default one of this machine's own for this call.
        workers: how many; by default one for each GPU, or core, that the cluster has.

    Raises:
        MissingDependencyError: without the extra ``ray``.
        OptionError: an option is out of range, there are no files, or more workers than the cluster has room for.
        OutputError: the folder cannot be written or holds embeddings made with other settings, or Ray failed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use over the network
    os.environ.setdefault("RAY_enable_metrics_collection", "0")
    require("ray.data", "the engine ray", "ray")
    ray = require("ray", "the engine ray", "ray")
    form = find_format("parquet")
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"device of the engine ray must be auto, cpu or cuda, got {device!r}")
    if workers is not None and (type(workers) is not int or workers < 1):
        raise OptionError(f"workers must be a positive integer, got {workers!r}")
    files = [replace(file, path=Path(os.path.abspath(file.path))) for file in collect(paths, relative_to)]
    loaded = load_model(model, **options)
    settings = run_settings(loaded, model, "parquet", timestamps, f"ray: {device}", options)
    task = (_spec(model), options, settings["parameters_sha256"], timestamps, os.path.abspath(output))

    def embed(pending: Sequence[AudioFile], folder: OutputFolder, bar: ProgressBar) -> list[Failure]:
        if not pending:
            return []
        with _cluster(ray, address, workers), bar as advance:
            n_workers, kind = _plan(ray, device, workers)
            failures = _record(_results(ray, _shards(pending, n_workers), task, kind, n_workers), folder, advance)
        folder.remove_leftovers()  # parts of workers that died
        return failures

    with open_output(output, form, settings, overwrite) as folder:
        return fill(folder, files, embed, progress)


class Worker:
    """Embeds shards on ``"cpu"`` or ``"cuda"`` and writes their parts under hidden names, in a process of its own.

    ``parameters`` is the digest of the driver's weights: all machines embed with the same.
    """

    def __init__(
        self, model: str, options: dict[str, Any], parameters: str, timestamps: bool, output: str, device: str
    ) -> None:
        self._timestamps, self._output = timestamps, output
        self._error: HearByolsError | None = None
        torch.set_num_threads(_GPU_THREADS if device == "cuda" else 1)
        try:
            loaded = load_model(model, **options)
            if parameters_digest(loaded) != parameters:
                raise CheckpointError(f"the weights of {model!r} are others on {platform.node()}")
            self._model = loaded.to(find_device(device))
        except HearByolsError as error:  # told by the first result: an exception here is tried again and again
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Embed a batch of one shard; the result is a JSON text."""
        result: dict[str, Any] = {"parts": [], "failures": [], "error": ""}
        files = [AudioFile(name, Path(path), error) for name, path, error in json.loads(batch["shard"][0])]
        form, limits = find_format("parquet"), group_limits(is_table=True, timestamps=self._timestamps)
        try:
            if self._error:
                raise self._error
            with closing(embedded_groups(self._model, files, self._timestamps, limits)) as groups:
                for group in groups:
                    result["failures"] += [(failure.name, failure.reason) for failure in group.failures]
                    if group.items:
                        part = Path(self._output, "embeddings", f".{uuid.uuid4().hex}.part{form.suffix}")
                        form.write(group.items, part)
                        sources = [source_record(clip) for clip in group.clips]
                        result["parts"].append((str(part), file_digest(part), sources))
        except (HearByolsError, OSError) as error:
            result["error"] = str(error)
        return {"result": [json.dumps(result)]}


@contextmanager
def _cluster(ray: Any, address: str | None, workers: int | None) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, and leave it in the end."""
    if ray.is_initialized():
        if address is not None:
            raise OptionError("Ray runs already in this process; call ray.shutdown() first, or leave out the address")
        yield
        return
    options: dict[str, Any] = {"address": "local" if address is None else address}
    if address is None:
        options |= {"num_cpus": workers, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "on this machine" if address is None else f"at {address}"
        raise OptionError(f"no Ray cluster could be used {where}: {str(error).splitlines()[0]}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _plan(ray: Any, device: str, workers: int | None) -> tuple[int, str]:
    """How many workers, on what."""
    have = ray.cluster_resources()
    if device == "auto":
        device = "cuda" if have.get("GPU", 0) >= 1 else "cpu"
    kind = "GPU" if device == "cuda" else "CPU"
    room = int(have.get(kind, 0))
    if room < (workers or 1):
        raise OptionError(f"{workers or 1} workers need a {kind} each, and the cluster has {room}; ask for fewer")
    return workers or room, device


def _spec(model: PathLike) -> str:
    """A model's name, with the paths in it as other working directories see them."""
    parts = [(existing_file(part), os.fspath(part)) for part in split_spec(model)]
    return "+".join(os.path.abspath(file) if file else part for file, part in parts)


def _shards(files: Sequence[AudioFile], n_workers: int) -> list[list[AudioFile]]:
    """Cut the list of files into what one worker embeds at a time."""
    most = max(1, min(SHARD_FILES, -(-len(files) // (n_workers * _SHARDS_PER_WORKER))))
    shards: list[list[AudioFile]] = []
    n_bytes = 0
    for file in files:
        size = os.path.getsize(file.path) if os.path.isfile(file.path) else 0
        n_bytes += size
        if not shards or len(shards[-1]) >= most or n_bytes > SHARD_BYTES:
            shards.append([])
            n_bytes = size
        shards[-1].append(file)
    return shards


def _results(
    ray: Any, shards: Sequence[list[AudioFile]], task: tuple[Any, ...], device: str, n_workers: int
) -> Iterator[dict[str, Any]]:
    """Have the shards embedded; what became of each comes as it is done."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [{"shard": json.dumps([[file.name, str(file.path), file.error] for file in shard])} for shard in shards]
    done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Worker,
        fn_constructor_args=(*task, device),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=n_workers),  # dead workers are replaced, and their shards tried again
        **{"num_gpus" if device == "cuda" else "num_cpus": 1},
    )
    try:
        for row in done.iter_rows():
            yield json.loads(row["result"])
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise OutputError(
            f"the workers could not go on ({type(error).__name__}: {reason}); what is recorded is safe, and the same "
            "command continues from there"
        ) from error


def _record(results: Iterator[dict[str, Any]], folder: OutputFolder, advance: Advance) -> list[Failure]:
    """Give each finished part its name and its line in the index."""
    failures = []
    for result in results:
        if result["error"]:
            raise OutputError(f"a worker could not go on: {result['error']}")
        for part, digest, sources in result["parts"]:
            folder.adopt(Path(part), digest, sources)
            advance(len(sources))
        failures += [Failure(*failure) for failure in result["failures"]]
        advance(len(result["failures"]))
    return failures
