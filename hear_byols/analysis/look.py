"""From an audio file to its picture; what ``hear-byols look`` does."""

from __future__ import annotations

from pathlib import Path

from hear_byols._util.device import find_device
from hear_byols._util.imports import require
from hear_byols.analysis.figures import check_output, save_figure
from hear_byols.analysis.look_picture import draw_view
from hear_byols.analysis.view import View, choose_framing, view_of
from hear_byols.errors import InputError
from hear_byols.extraction.files import AudioFile, PathLike
from hear_byols.extraction.reader import read_clip
from hear_byols.hear import load_model


def look_at(
    model: str,
    path: PathLike,
    output: PathLike,
    *,
    frame_ms: float | None = None,
    hop_ms: float | None = None,
    device: str = "auto",
) -> View:
    """Draw a file; what ``hear-byols look`` does.

    Args:
        model: what ``load_model`` takes.
        path: audio file.
        output: picture: ``.png``, ``.pdf`` or ``.svg``.
        frame_ms: window of the embeddings in milliseconds; by default 1000, 500 for files under 10 s and 250 under 3 s.
        hop_ms: distance of the embeddings in milliseconds; by default a twentieth of the window, and longer for files
            that would give more than 1200 windows.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Returns:
        What was drawn.

    Raises:
        InputError: the file cannot be read or embedded.
        OptionError: an option is out of range.
        OutputError: the picture cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    target = check_output(output)
    require("matplotlib", "a picture", "analysis")
    place = find_device(device)
    loaded = load_model(model)
    clip = read_clip(AudioFile(Path(path).name, Path(path)), loaded.sample_rate)
    if clip.error:
        raise InputError(clip.error)
    frame, hop = choose_framing(len(clip.samples) / loaded.sample_rate, frame_ms, hop_ms)
    # The framing depends on the file's length, which needs the model's rate.
    view = view_of(load_model(model, frame_ms=frame, hop_ms=hop).to(place), clip.samples, clip.file.name)
    save_figure(draw_view(view, model or "default model"), target)
    return view
