"""Clips and their vectors: labelled ones to learn from, and any others to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hear_byols.answers.labels import Label, first_folder, read_table
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.arrays import embed_each
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.folder import EmbeddingFolder, is_embedding_folder, read_embeddings
from hear_byols.extraction.groups import Failure
from hear_byols.interface import AudioModel

LoadModel = Callable[[], AudioModel]


@dataclass(frozen=True)
class Clips:
    """Vectors of whole clips.

    Args:
        vectors: float32 [shape=(n_clips, size)].
        names: of the clips [n_clips].
        labels: of the clips; empty where none were asked for.
        groups: clips of one group are never on both sides of a test; empty if every clip is a group of its own.
        failures: clips that could not be embedded.
        source: the folder of ``embed`` that they come from, if any.
        audio: the clips themselves, paths or samples; empty where they are not known.
    """

    vectors: np.ndarray
    names: tuple[str, ...]
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    source: EmbeddingFolder | None = None
    audio: tuple[Any, ...] = ()


def labelled_clips(source: PathLike, model: LoadModel, labels: PathLike | None = None, progress: bool = False) -> Clips:
    """Read labelled clips.

    Args:
        source: a folder of audio or an output folder of ``embed``, whose first sub-folders are the labels; or a table
            (CSV) with the columns path, label and, if wanted, group, whose paths start at the table's own folder.
        model: gives the model; called when there is audio to embed.
        labels: a table for the files of a folder instead; its paths start at that folder.
        progress: show how far it is.

    Raises:
        OptionError: there are no labels, or they fit none of the clips.
        InputError: the source cannot be read, or none of its clips.
    """
    source = Path(source)
    if is_embedding_folder(source):
        table = read_labels(labels) if labels else None
        return _of_folder(read_embeddings(source), table, source)
    if source.is_dir():
        files = collect([source])
        table = read_labels(labels) if labels else _first_folders(file.name for file in files)
        files = [file for file in files if table.get(file.name)]
    else:
        table = read_labels(source)
        files = [AudioFile(name, source.parent / name) for name in table]
    if not files:
        raise OptionError(
            f"{source}: no labelled audio; give a folder with a sub-folder for each class, or a table path,label"
        )
    return embed_clips(files, model, table, progress)


def clips_to_judge(paths: Sequence[PathLike], model: LoadModel, progress: bool = False) -> Clips:
    """Vectors of files, of all audio in folders, or of one output folder of ``embed``.

    Args:
        paths: what to read.
        model: as in :func:`labelled_clips`.
        progress: show how far it is.

    Raises:
        InputError: nothing could be embedded, or the folder cannot be read.
    """
    if len(paths) == 1 and is_embedding_folder(paths[0]):
        return _of_folder(read_embeddings(paths[0]), {}, Path(paths[0]))
    return embed_clips(collect(paths), model, {}, progress)


def embed_clips(files: Sequence[AudioFile], model: LoadModel, table: Mapping[str, Label], progress: bool) -> Clips:
    """Embed files, with the labels that a table has for them; those that cannot be read are in the failures."""
    results = embed_each(files, model(), progress=progress)
    failures = tuple(result for result in results if isinstance(result, Failure))
    fine = [result for result in results if not isinstance(result, Failure)]
    if not fine:
        raise InputError(f"none of the {len(files)} files could be embedded; {failures[0].reason}")
    paths = {file.name: file.path for file in files}
    return _clips(np.stack([item.vectors for item in fine]), [item.source for item in fine], table, paths, failures)


def read_labels(path: PathLike) -> dict[str, Label]:
    """The label of each path of a table.

    Raises:
        OptionError: as :func:`~hear_byols.answers.labels.read_table`, or a path has two labels.
    """
    found = {}
    for name, rows in read_table(path).items():
        if len(set(rows)) > 1:
            raise OptionError(f"{path} gives {name!r} the labels {rows[0].label!r} and {rows[-1].label!r}; one is due")
        found[name] = rows[0]
    return found


def check_classes(clips: Clips) -> None:
    """Refuse what a classifier cannot be learnt and tested from.

    Raises:
        OptionError: fewer than two classes, or a class with fewer than two clips (groups, where there are such).
    """
    members: dict[str, set[str]] = {label: set() for label in sorted(clips.labels)}
    for i, label in enumerate(clips.labels):
        members[label].add(clips.groups[i] if clips.groups else str(i))
    if len(members) < 2:
        raise OptionError(f"at least two classes are needed, got {list(members)} on {len(clips.names)} readable clips")
    few = [label for label, own in members.items() if len(own) < 2]
    if few:
        what = "groups of clips" if clips.groups else "clips"
        raise OptionError(
            f"every class needs at least two {what} that can be read, five are sensible; "
            f"{', '.join(map(repr, few[:5]))} {'has' if len(few) == 1 else 'have'} one"
        )


def _of_folder(content: EmbeddingFolder, table: Mapping[str, Label] | None, path: Path) -> Clips:
    if content.times_ms is not None:
        raise OptionError(f"{path} holds embeddings of windows (--timestamps); whole files are needed here")
    if table is None:
        table = _first_folders(content.names)
    kept = [i for i, name in enumerate(content.names) if not table or name in table]
    if not kept or (table and not set(content.names) & set(table)):
        raise OptionError(
            f"the labels fit none of the {len(content)} files in {path}, such as {content.names[0]!r}; give a table "
            "path,label (--labels)"
        )
    failures = tuple(Failure(failed["name"], failed["reason"]) for failed in content.failed)
    names = [content.names[i] for i in kept]
    return _clips(content.vectors[kept], names, table, content.paths, failures, content)


def _clips(
    vectors: np.ndarray,
    names: Sequence[str],
    table: Mapping[str, Label],
    paths: Mapping[str, Any],
    failures: tuple[Failure, ...],
    source: EmbeddingFolder | None = None,
) -> Clips:
    rows = [table[name] for name in names] if table else []
    groups = tuple(row.group or f"\0{i}" for i, row in enumerate(rows)) if any(row.group for row in rows) else ()
    labels, audio = tuple(row.label for row in rows), tuple(paths[name] for name in names)
    return Clips(vectors, tuple(names), labels, groups, failures, source, audio)


def _first_folders(names: Iterable[str]) -> dict[str, Label]:
    return {name: Label(label) for name in names if (label := first_folder(name))}
