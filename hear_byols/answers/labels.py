"""Labels of audio files: from a table (CSV), a HEAR task folder or the names of sub-folders."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hear_byols._util.tables import unguarded
from hear_byols.errors import OptionError
from hear_byols.evaluation.tasks import METADATA as TASK_FILE
from hear_byols.evaluation.tasks import audio_rates, read_task
from hear_byols.extraction.files import AudioFile, PathLike

_COLUMNS = (("path", "file", "filename"), ("label",), ("group",))


@dataclass(frozen=True)
class Label:
    """What a table says of a file."""

    label: str
    group: str = ""


def find_labels(files: Sequence[AudioFile], source: PathLike | None = None) -> list[str | None]:
    """Find a label for each file, None for those without; several of one file are joined by " + ".

    Args:
        files: as ``collect`` gives them for one folder.
        source: a table as :func:`read_table` takes it, with paths below that folder; a HEAR task folder (scene tasks);
            or None for the first sub-folder that a file lies in.

    Raises:
        OptionError: the source is neither, cannot be understood, or labels none of the files.
        TaskError: a task folder is not in the format.
    """
    if source is None:
        return [first_folder(file.name) for file in files]
    source = Path(source)
    if source.is_dir():
        task = read_task(source)
        if task.is_event:
            raise OptionError(
                f"{source}: labels of whole files come from scene tasks; this task's embedding_type is "
                f"{task.embedding_type!r}"
            )
        known = {str(clip): clip.labels for clip in task.all_clips() if clip.labels}
        names = [f"{file.path.absolute().parent.name}/{file.path.name}" for file in files]  # split/file
    elif source.is_file():
        known = {name: [row.label for row in rows] for name, rows in read_table(source).items()}
        names = [file.name for file in files]
    else:
        raise OptionError(f"{source}: no such file; labels are a table (CSV) or a HEAR task folder")
    labels = [" + ".join(sorted(set(known.get(name, ())))) or None for name in names]
    if not any(labels):
        raise OptionError(
            f"{source} labels {len(known)} files, none of them among the {len(files)} audio files; it speaks of "
            f"{next(iter(known), '-')!r}, the audio of {files[0].name!r}"
        )
    return labels


def first_folder(name: str) -> str | None:
    """The first sub-folder that a file lies in, if any."""
    return PurePosixPath(name).parts[0] if "/" in name else None


def audio_folder(folder: Path, sample_rate: int) -> Path:
    """Where the audio of a folder is: in a HEAR task folder that of one rate, else the folder itself.

    Raises:
        OptionError: a task folder without audio.
    """
    if not (folder / TASK_FILE).is_file():
        return folder
    rates = audio_rates(folder)
    if not rates:
        raise OptionError(f"{folder} is a task folder without audio; it should hold a folder such as {sample_rate}")
    return folder / str(sample_rate if sample_rate in rates else rates[-1])


def read_table(path: PathLike) -> dict[str, list[Label]]:
    """Read a table in UTF-8 with the columns path (or file), label and, if wanted, group, as {path: labels}.

    Raises:
        OptionError: it cannot be read, or lacks a column.
    """
    found: dict[str, list[Label]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            present = reader.fieldnames or ()
            columns = [next((each for each in present if each.strip().lower() in names), None) for names in _COLUMNS]
            if None in columns[:2]:
                got = ", ".join(present) or "nothing"
                raise OptionError(f"{path}: the first line must name the columns path and label; it holds {got[:200]}")
            for row in reader:
                name, label, group = (unguarded(str((column and row[column]) or "").strip()) for column in columns)
                if name and label:
                    found.setdefault(PurePosixPath(name).as_posix(), []).append(Label(label, group))
    except (OSError, UnicodeError, csv.Error) as error:
        raise OptionError(f"{path}: cannot be read as a table (CSV in UTF-8) or a folder ({error})") from error
    return found
