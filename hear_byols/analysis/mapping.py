"""From a folder of audio to a map of its embeddings; what ``hear-byols map`` does."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_byols._util.files import output_path
from hear_byols._util.imports import require
from hear_byols.analysis.atlas import make_atlas
from hear_byols.analysis.figures import FIGURE_SUFFIXES, check_output, save_figure
from hear_byols.analysis.labels import TASK_FILE, audio_folder, find_labels
from hear_byols.analysis.map_page import make_page
from hear_byols.analysis.map_picture import draw_map
from hear_byols.analysis.projection import check_method, project
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.extract import embed_to_folder
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.folder import is_embedding_folder, read_embeddings
from hear_byols.extraction.groups import Failure
from hear_byols.hear import load_model

PAGE_SUFFIX = ".html"


@dataclass(frozen=True)
class MapReport:
    """What :func:`map_folder` did.

    Args:
        n_files: files on the map.
        n_unlabelled: those of them that have no label.
        failures: files that could not be embedded.
    """

    n_files: int
    n_unlabelled: int
    failures: tuple[Failure, ...]


def map_folder(
    model: str,
    audio: PathLike,
    output: PathLike,
    *,
    labels: PathLike | None = None,
    method: str = "pca",
    title: str = "",
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> MapReport:
    """Embed a folder of audio (scene embeddings) and draw its map.

    Args:
        model: what ``load_model`` takes. For an output folder of ``embed`` empty, or the model that it must be of.
        audio: a folder; a HEAR task folder, whose labels then are the default; or an output folder of ``embed``, which
            is read instead of embedding its files again.
        output: ``.html`` for an interactive page, ``.png``, ``.pdf`` or ``.svg`` for a picture.
        labels: CSV file or HEAR task folder; by default the names of sub-folders.
        method: ``"pca"`` or ``"umap"``.
        title: of the map; by default model and folder.
        seed: of UMAP.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        progress: show a progress bar when standard error is a terminal.

    Raises:
        OptionError: an option is out of range, there is no audio, or the labels fit none of it.
        InputError: too few files could be embedded.
        OutputError: the map cannot be written.
        MissingDependencyError: a package of the extra ``analysis`` or ``umap`` is not installed.
    """
    target = check_output(output, (PAGE_SUFFIX, *FIGURE_SUFFIXES))
    check_method(method)
    is_page = target.suffix.lower() == PAGE_SUFFIX
    if not is_page:
        require("matplotlib", "a picture", "analysis")
    folder = Path(audio)
    known = _read(folder, model) if is_embedding_folder(folder) else None
    if known is not None:
        source, files = folder, known[0]
    else:
        if not folder.is_dir():
            raise OptionError(f"{folder} is not a folder; --audio takes a folder of audio files, or one of embeddings")
        if labels is None and (folder / TASK_FILE).is_file():
            labels = folder
        source = audio_folder(folder, load_model(model).sample_rate)
        files = collect([source])
    found = find_labels(files, None if labels is None else Path(labels))
    vectors, failures = known[1:] if known is not None else _embed(model, source, device, progress)
    kept = [i for i, file in enumerate(files) if file.name in vectors]
    if not kept:
        raise InputError(f"none of the {len(files)} files could be embedded; {failures[0].reason}")
    projection = project(np.stack([vectors[files[i].name] for i in kept]), method, seed)
    title = title or f"{model or 'default model'}: {folder.resolve().name}"
    atlas = make_atlas(title, projection, [files[i].name for i in kept], [found[i] for i in kept])
    if is_page:
        with output_path(target) as part:
            part.write_text(make_page(atlas), encoding="utf-8")
    else:
        save_figure(draw_map(atlas), target)
    return MapReport(len(kept), sum(found[i] is None for i in kept), failures)


def _read(folder: Path, model: str) -> tuple[list[AudioFile], dict[str, np.ndarray], tuple[Failure, ...]]:
    """What an output folder of ``embed`` holds, of this model if one is named."""
    content = read_embeddings(folder, model=load_model(model) if model else None)
    if content.times_ms is not None:
        raise OptionError(f"{folder} holds windows (--timestamps); a map is of whole files")
    files = [AudioFile(name, Path(content.paths[name])) for name in content.names]
    failures = tuple(Failure(failed["name"], failed["reason"]) for failed in content.failed)
    return files, dict(zip(content.names, content.vectors, strict=True)), failures


def _embed(model: str, folder: Path, device: str, progress: bool) -> tuple[dict[str, np.ndarray], tuple[Failure, ...]]:
    """Embed what can be embedded: vectors by the files' names, and failures."""
    with tempfile.TemporaryDirectory(prefix="hear_byols-map-") as home:
        report = embed_to_folder([folder], home, model=model, device=device, progress=progress)
        embeddings = Path(home, "embeddings")
        vectors = {
            path.relative_to(embeddings).as_posix().removesuffix(".npz"): np.load(path)["embedding"]
            for path in embeddings.rglob("*.npz")
        }
    return vectors, report.failures
