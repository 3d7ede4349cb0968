"""From a folder of audio or of embeddings to a map; what ``hear-byols map`` does."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hear_byols._util.files import output_path
from hear_byols._util.imports import require
from hear_byols.analysis.figures import FIGURE_SUFFIXES, check_output, save_figure
from hear_byols.analysis.maps import Sound, check_method, draw_map, make_map_data, project
from hear_byols.answers.clusters import cluster_rows
from hear_byols.answers.compact import units
from hear_byols.answers.examples import clips_of
from hear_byols.answers.labels import TASK_FILE, audio_folder, find_labels
from hear_byols.answers.map_page import make_page
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.extract import embed_to_folder
from hear_byols.extraction.files import AudioFile, PathLike, collect
from hear_byols.extraction.folder import EmbeddingFolder, is_embedding_folder, read_embeddings
from hear_byols.extraction.groups import Failure
from hear_byols.hear import load_model

PAGE_SUFFIX = ".html"
MAX_POINTS = 20_000  # of windows; of more, every second, third ... is taken


@dataclass(frozen=True)
class MapReport:
    """What :func:`map_folder` did."""

    n_points: int  # files or windows on the map
    n_unlabelled: int  # those of them that have no label
    failures: tuple[Failure, ...]  # files that could not be embedded


def map_folder(
    model: str,
    audio: PathLike,
    output: PathLike,
    *,
    labels: PathLike | None = None,
    clusters: int | None = None,
    method: str = "pca",
    title: str = "",
    seed: int = 0,
    device: str = "auto",
    progress: bool = False,
) -> MapReport:
    """Embed a folder of audio (scene embeddings) and draw its map.

    Args:
        model: what ``load_model`` takes. For an output folder of ``embed`` empty, or the model that it must be of.
        audio: a folder; a HEAR task folder, whose labels then are the default; or an output folder of ``embed``, of
            whole files or of windows, which is read instead of embedding its files again.
        output: ``.html`` for a page to explore, which plays the audio where it lies; or ``.png``, ``.pdf``, ``.svg``.
        labels: CSV file or HEAR task folder; by default the names of sub-folders.
        clusters: colour by so many clusters instead of labels.
        method: ``"pca"`` or ``"umap"``.
        title: of the map; by default model and folder.
        seed: of UMAP and of the clusters.
        device: ``"auto"``, or a torch device.
        progress: show a progress bar when standard error is a terminal.

    Raises:
        OptionError: an option is out of range, there is no audio, or the labels fit none of it.
        InputError: too few files could be embedded.
        OutputError: the map cannot be written.
        MissingDependencyError: a package of the extra ``analysis`` or ``map`` is not installed.
    """
    target = check_output(output, (PAGE_SUFFIX, *FIGURE_SUFFIXES))
    check_method(method)
    if clusters is not None and (labels is not None or clusters < 2):
        raise OptionError(f"clusters must be at least 2 and stand in place of labels; got {clusters}, {labels}")
    is_page = target.suffix.lower() == PAGE_SUFFIX
    if not is_page:
        require("matplotlib", "a picture", "analysis")
    folder = Path(audio)
    if is_embedding_folder(folder):
        content = read_embeddings(folder, model=load_model(model) if model else None, most_windows=MAX_POINTS)
    else:
        if not folder.is_dir():
            raise OptionError(f"{folder} is not a folder; --audio takes a folder of audio files, or one of embeddings")
        if labels is None and (folder / TASK_FILE).is_file():
            labels = folder
        source = audio_folder(folder, load_model(model).sample_rate)
        find_labels(collect([source]), labels)  # before any work is done
        with tempfile.TemporaryDirectory(prefix="hear_byols-map-") as home:
            report = embed_to_folder([source], home, model=model, device=device, progress=progress)
            if not report.n_embedded:
                raise InputError(f"none of the files in {source} could be embedded; {report.failures[0].reason}")
            content = read_embeddings(home)
    names, vectors, sounds = content.names, content.vectors, _sounds(content)
    if clusters is None:
        found = find_labels([AudioFile(n, s.path) for n, s in zip(names, sounds, strict=True)], labels)
    else:
        found = [f"cluster {cluster + 1}" for cluster in cluster_rows(units(vectors), clusters, seed)[0]]
    title = title or f"{model or 'default model'}: {folder.resolve().name}"
    data = make_map_data(title, project(vectors, method, seed), names, found, sounds)
    if is_page:
        with output_path(target) as part:
            part.write_text(make_page(data, target.parent), encoding="utf-8")
    else:
        save_figure(draw_map(data), target)
    return MapReport(len(names), sum(label is None for label in found), clips_of(content).failures)


def _sounds(content: EmbeddingFolder) -> list[Sound]:
    """What each row sounds like: its file, or its window of it."""
    paths = [Path(content.paths[name]) for name in content.names]
    if content.times_ms is None:
        return [Sound(path) for path in paths]
    half = content.settings["frame_ms"] / 2
    return [
        Sound(path, max(0.0, float(time - half) / 1000), float(time + half) / 1000)
        for path, time in zip(paths, content.times_ms, strict=True)
    ]
