"""Labels of audio files: from a CSV file, a HEAR task folder or the names of sub-folders."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from hear_byols._util.tables import unguarded
from hear_byols.errors import OptionError
from hear_byols.extraction.files import AudioFile

TASK_FILE = "task_metadata.json"
_COLUMNS = (("file", "path"), ("label",))


def find_labels(files: Sequence[AudioFile], source: Path | None = None) -> list[str | None]:
    """Find a label for each file.

    Args:
        files: as ``collect`` gives them for one folder.
        source: a CSV file with the columns ``file`` or ``path`` (below that folder) and ``label``; a HEAR task folder
            (scene tasks); or None for the first sub-folder that a file lies in. Several labels of one file are joined
            by " + ".

    Returns:
        A label a file, None for those without.

    Raises:
        OptionError: the source is neither, cannot be understood, or labels none of the files.
    """
    if source is None:
        return [PurePosixPath(file.name).parts[0] if "/" in file.name else None for file in files]
    if source.is_dir():
        known = _read_task(source)
        labels = [known.get(f"{file.path.absolute().parent.name}/{file.path.name}") for file in files]
    elif source.is_file():
        known = _read_table(source)
        labels = [known.get(file.name) for file in files]
    else:
        raise OptionError(f"{source}: no such file; labels are a CSV file or a HEAR task folder")
    if not any(labels):
        raise OptionError(
            f"{source} labels {len(known)} files, none of them among the {len(files)} audio files; it speaks of "
            f"{next(iter(known), '-')!r}, the audio of {files[0].name!r}"
        )
    return labels


def audio_folder(folder: Path, sample_rate: int) -> Path:
    """Where the audio of a folder is: in a HEAR task folder that of one rate, else the folder itself.

    Raises:
        OptionError: a task folder without audio.
    """
    if not (folder / TASK_FILE).is_file():
        return folder
    rates = sorted(int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    if not rates:
        raise OptionError(f"{folder} is a task folder without audio; it should hold a folder such as {sample_rate}")
    return folder / str(sample_rate if sample_rate in rates else rates[-1])


def _read_table(path: Path) -> dict[str, str]:
    """Read {file: label} from CSV."""
    found: dict[str, list[str]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            present = reader.fieldnames or ()
            columns = [next((name for name in names if name in present), None) for names in _COLUMNS]
            if None in columns:
                got = ", ".join(present) or "nothing"
                raise OptionError(f"{path}: the first line must name the columns file and label; it holds {got[:200]}")
            for row in reader:
                name, label = (unguarded(str(row[column or ""] or "").strip()) for column in columns)
                if name and label:
                    found.setdefault(PurePosixPath(name).as_posix(), []).append(label)
    except (OSError, UnicodeError, csv.Error) as error:
        raise OptionError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error
    return {name: _join(labels) for name, labels in found.items()}


def _read_task(folder: Path) -> dict[str, str]:
    """Read {"split/file": label} of a HEAR scene task."""
    metadata = _read_json(folder / TASK_FILE)
    if metadata.get("embedding_type") != "scene":
        raise OptionError(
            f"{folder}: labels of whole files come from scene tasks; this task's embedding_type is "
            f"{metadata.get('embedding_type')!r}"
        )
    found = {}
    for split in metadata.get("splits") or ():
        for name, labels in _read_json(folder / f"{split}.json").items():
            found[f"{split}/{name}"] = _join(labels if isinstance(labels, list) else [labels])
    return {name: label for name, label in found.items() if label}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path}: a HEAR task folder needs this file as JSON ({error})") from error
    if not isinstance(content, dict):
        raise OptionError(f"{path}: must hold a JSON object, got {type(content).__name__}")
    return content


def _join(labels: Sequence[Any]) -> str:
    return " + ".join(sorted({str(label) for label in labels}))
