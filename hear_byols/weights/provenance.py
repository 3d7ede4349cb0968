"""What a checkpoint says of itself beside what training knows: name, licence, and whose audio it learnt from."""

import csv
import os
from pathlib import Path

from hear_byols.errors import CheckpointError, InputError
from hear_byols.weights.checkpoint import SCHEMA, read_checkpoint, save_checkpoint

_KEY = "shard"
_LEFT_OUT = ("clips", "hours", "bytes", "kind", "clean")  # of a manifest; the hours are the run's


def read_manifest(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Read what is known about the sources of audio: for each, by the shard's name without its suffix, its columns.

    Args:
        path: CSV file with the columns ``shard`` and ``licence``, and any of ``content``, ``author``, ``link`` and
            ``version``.

    Raises:
        InputError: the file cannot be read, or a column is missing.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of sources ({error})") from error
    missing = {_KEY, "licence"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{path} needs the columns shard and licence; missing: {', '.join(sorted(missing))}")
    return {
        Path(row[_KEY]).stem: {k: v for k, v in row.items() if k and v and k != _KEY and k not in _LEFT_OUT}
        for row in rows
    }


def add_provenance(
    checkpoint: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    licence: str = "",
    name: str = "",
    description: str = "",
    manifest: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a checkpoint again with what its author says of it; weights and vectors stay as they are.

    Args:
        checkpoint: a file that this package wrote.
        output: ends in ``.pth`` or ``.safetensors``; may be the same file.
        licence: of the weights, an SPDX identifier such as ``CC-BY-4.0``; empty keeps what is there, as below.
        name: of the model.
        description: one sentence.
        manifest: see :func:`read_manifest`; every source of the run must stand in it.

    Returns:
        ``output``.

    Raises:
        CheckpointError: the file is faulty, or a bare state dict.
        InputError: the manifest cannot be read, or lacks a source.
    """
    content = read_checkpoint(Path(checkpoint))
    if content.schema != SCHEMA:
        raise CheckpointError(f"{checkpoint}: a bare state dict has no provenance; write it with save_checkpoint first")
    given = {"name": name, "description": description, "licence": licence}
    provenance = {**content.provenance, **{key: value for key, value in given.items() if value}}
    if manifest is not None:
        sources, data = read_manifest(manifest), provenance.get("data")
        rows = data if isinstance(data, list) else []
        missing = [row["name"] for row in rows if row["name"] not in sources]
        if missing or not rows:
            lacks = ", ".join(missing) or "the checkpoint: it names no sources"
            raise InputError(f"{manifest} says nothing of {lacks}")
        provenance["data"] = [{**row, **sources[row["name"]]} for row in rows]
    save_checkpoint(output, content.config, content.state_dict, provenance, half=content.fits_half)
    return Path(output)
