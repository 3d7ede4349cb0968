"""The files of a HEAR task folder, value by value; every error names the file, and is a ``TaskError`` or of audio."""

import csv
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import soundfile

from hear_byols.errors import InputError, TaskError


def read_json(path: Path, kind: type) -> Any:
    """Content of a JSON file, which must be of a kind."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TaskError(f"{path} is missing") from None
    except (OSError, ValueError) as error:
        raise TaskError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, kind):
        raise TaskError(f"{path} must hold a JSON {'object' if kind is dict else kind.__name__}")
    return content


def one_of(metadata: Mapping[str, Any], key: str, accepted: tuple[str, ...], path: Path) -> str:
    """A value that must be one of a few."""
    value = metadata.get(key)
    if value not in accepted:
        raise TaskError(f"{path}: {key} must be one of {', '.join(accepted)}, got {value!r}")
    return value


def strings(metadata: Mapping[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """A list of one or more names."""
    value = metadata.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise TaskError(f"{path}: {key} must be a list of one or more names, got {value!r}")
    return tuple(value)


def duration(metadata: Mapping[str, Any], path: Path) -> float | None:
    """The length of all clips in seconds, or None."""
    value = metadata.get("sample_duration")
    if value is None:
        return None
    with suppress(ValueError):
        if number(value) > 0:
            return number(value)
    raise TaskError(f"{path}: sample_duration must be a positive number of seconds or null, got {value!r}")


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Labels of ``labelvocabulary.csv``, each at its index."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [(int(row["idx"]), row["label"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise TaskError(f"{path} is missing") from None
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise TaskError(f"{path} must have the columns idx (a number) and label ({error})") from error
    labels = dict(rows)
    if not rows or sorted(index for index, _ in rows) != list(range(len(rows))):
        raise TaskError(f"{path}: the column idx must hold every number from 0 to {max(len(rows) - 1, 0)} once")
    if None in labels.values() or len(set(labels.values())) < len(rows):
        raise TaskError(f"{path}: every label must occur once")
    return tuple(labels[index] for index in range(len(rows)))


def entries(path: Path) -> list[tuple[str, Any]]:
    """File names of a split, and what is said of each."""
    found = list(read_json(path, dict).items())
    for name, _ in found:
        if Path(name).name != name or name in ("", ".", ".."):
            raise TaskError(f"{path}: {name!r} is not the name of a file")
    return found


def audio_info(path: Path, sample_rate: int) -> Any:
    """What libsndfile says of a clip, or an ``InputError`` if it is no audio, or has another rate in Hz."""
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as audio ({error})") from error
    if info.samplerate != sample_rate:
        raise InputError(f"{path}: has {info.samplerate} Hz, its folder's name says {sample_rate} Hz")
    return info


def number(value: object) -> float:
    """A finite number, or a ``ValueError``."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)
