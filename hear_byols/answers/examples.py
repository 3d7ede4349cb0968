"""Clips and their vectors: labelled ones to learn from, and any others to judge."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """Vectors of whole clips."""

    vectors: np.ndarray  # float32 [shape=(n_clips, size)]
    names: tuple[str, ...]  # of the clips [n_clips]
    labels: tuple[str, ...] = ()  # of the clips; empty where none were asked for
    groups: tuple[str, ...] = ()  # never on both sides of a test; empty if every clip is a group of its own
    failures: tuple[Failure, ...] = ()  # clips that could not be embedded
    source: EmbeddingFolder | None = None  # the folder of embed that they come from, if any
    audio: tuple[Any, ...] = ()  # the clips themselves, paths or samples; empty where they are not known


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
    table = read_labels(labels) if labels else None
    if is_embedding_folder(source):
        clips = _of_folder(source)
        table = _first_folders(clips.names) if table is None else table
        if not table.keys() & set(clips.names):
            raise OptionError(
                f"the labels fit none of the {len(clips.names)} files in {source}, such as {clips.names[0]!r}; give a "
                "table path,label (--labels)"
            )
        return _labelled(clips, table)
    if source.is_dir():
        files = collect([source])
        table = _first_folders(file.name for file in files) if table is None else table
        files = [file for file in files if file.name in table]
    else:
        table = read_labels(source)
        files = [AudioFile(name, source.parent / name) for name in table]
    if not files:
        raise OptionError(
            f"{source}: no labelled audio; give a folder with a sub-folder for each class, or a table path,label"
        )
    return _labelled(embed_clips(files, model, progress), table)


def clips_to_judge(paths: Sequence[PathLike], model: LoadModel, progress: bool = False) -> Clips:
    """Vectors of files, of all audio in folders, or of one output folder of ``embed``.

    Raises:
        InputError: nothing could be embedded, or the folder cannot be read.
    """
    if len(paths) == 1 and is_embedding_folder(paths[0]):
        return _of_folder(Path(paths[0]))
    return embed_clips(collect(paths), model, progress)


def embed_clips(files: Sequence[AudioFile], model: LoadModel, progress: bool) -> Clips:
    """Embed files; those that cannot be read are in the failures."""
    results = embed_each(files, model(), progress=progress)
    failures = tuple(result for result in results if isinstance(result, Failure))
    fine = [result for result in results if not isinstance(result, Failure)]
    if not fine:
        raise InputError(f"none of the {len(files)} files could be embedded; {failures[0].reason}")
    paths, names = {file.name: file.path for file in files}, tuple(item.source for item in fine)
    vectors = np.stack([item.vectors for item in fine])
    return Clips(vectors, names, failures=failures, audio=tuple(paths[name] for name in names))


def clips_of(content: EmbeddingFolder) -> Clips:
    """The clips of an output folder of ``embed``."""
    failures = tuple(Failure(failed["name"], failed["reason"]) for failed in content.failed)
    audio = tuple(content.paths[name] for name in content.names)
    return Clips(content.vectors, content.names, failures=failures, source=content, audio=audio)


def read_labels(path: PathLike) -> dict[str, Label]:
    """The label of each path of a table; an ``OptionError`` as of ``read_table``, or if a path has two labels."""
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
    owners = clips.groups or range(len(clips.labels))
    counts = Counter(label for label, _ in set(zip(clips.labels, owners, strict=True)))
    if len(counts) < 2:
        raise OptionError(f"at least two classes are needed, got {list(counts)} on {len(clips.names)} readable clips")
    few = sorted(label for label, n in counts.items() if n < 2)
    if few:
        what = "groups of clips" if clips.groups else "clips"
        raise OptionError(
            f"every class needs at least two {what} that can be read, five are sensible; "
            f"{', '.join(map(repr, few[:5]))} {'has' if len(few) == 1 else 'have'} one"
        )


def _of_folder(path: Path) -> Clips:
    content = read_embeddings(path)
    if content.times_ms is not None:
        raise OptionError(f"{path} holds embeddings of windows (--timestamps); whole files are needed here")
    return clips_of(content)


def _labelled(clips: Clips, table: Mapping[str, Label]) -> Clips:
    """Those of the clips that a table has labels for, with these."""
    kept = [i for i, name in enumerate(clips.names) if name in table]
    names, audio = (tuple(values[i] for i in kept) for values in (clips.names, clips.audio))
    rows = [table[name] for name in names]
    groups = tuple(row.group or f"\0{i}" for i, row in enumerate(rows)) if any(row.group for row in rows) else ()
    labels = tuple(row.label for row in rows)
    return replace(clips, vectors=clips.vectors[kept], names=names, audio=audio, labels=labels, groups=groups)


def _first_folders(names: Iterable[str]) -> dict[str, Label]:
    return {name: Label(label) for name in names if (label := first_folder(name))}
