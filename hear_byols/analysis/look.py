"""The picture of one file: four panels above one time axis in seconds; what ``hear-byols look`` draws."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hear_byols._util.device import find_device
from hear_byols._util.imports import require
from hear_byols.analysis.figures import check_output, new_figure, printable, save_figure
from hear_byols.analysis.view import View, choose_framing, view_of
from hear_byols.config import FrontendConfig
from hear_byols.errors import InputError
from hear_byols.extraction.files import AudioFile, PathLike
from hear_byols.extraction.reader import read_clip
from hear_byols.hear import load_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_COLUMNS = 1500  # that waveform and spectrogram are thinned to
_TICKS_HZ = (100, 500, 1000, 2000, 5000, 10000, 20000)
_WIDTH, _SQUARE = 9.0, 7.0  # inches; about the width of the panels themselves
_NEPERS_TO_DB = 10 / np.log(10)
_RANGE_DB = 80  # below the loudest


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
        device: ``"auto"``, or a torch device.

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


def draw_view(view: View, model_name: str) -> Figure:
    """Draw waveform, log-mel spectrogram, change and self-similarity."""
    heights = [1.1, 1.9, 1.0, _SQUARE]
    figure = new_figure(_WIDTH, sum(heights) + 1.2)
    grid = figure.add_gridspec(4, 2, height_ratios=heights, width_ratios=[1, 0.02])
    top = figure.add_subplot(grid[0, 0])
    panels = [top, *(figure.add_subplot(grid[row, 0], sharex=top) for row in (1, 2, 3))]
    bars = [figure.add_subplot(grid[row, 1]) for row in (1, 3)]
    figure.suptitle(f"{printable(view.name, 60)} - {printable(model_name, 40)}", fontsize=11, parse_math=False)
    _draw_waveform(panels[0], view)
    figure.colorbar(_draw_log_mel(panels[1], view), cax=bars[0], label="dB")
    _draw_change(panels[2], view)
    figure.colorbar(_draw_similarity(panels[3], view), cax=bars[1], label="cosine")
    for panel in panels[:-1]:
        panel.tick_params(labelbottom=False)
    panels[-1].set_xlabel("time in seconds")
    panels[0].set_xlim(0, view.seconds)
    return figure


def _draw_waveform(axes: Axes, view: View) -> None:
    low, high = (thin(view.samples, _COLUMNS, choose) for choose in (np.minimum, np.maximum))
    time = np.linspace(0, view.seconds, len(low), endpoint=False) + view.seconds / len(low) / 2
    axes.fill_between(time, low, high, color="#0072b2", linewidth=0.5, edgecolor="#0072b2")
    peak = float(np.abs(view.samples).max()) or 1.0
    axes.set_ylim(-1.05 * peak, 1.05 * peak)
    axes.set_ylabel("amplitude")


def _draw_log_mel(axes: Axes, view: View) -> ScalarMappable:
    decibels = _NEPERS_TO_DB * thin(view.log_mel, _COLUMNS)
    top = float(decibels.max())
    # A frame's centre is a multiple of the hop from 0 on.
    half, n_frames = view.frontend.hop_length / view.sample_rate / 2, view.log_mel.shape[1]
    extent = (-half, (2 * n_frames - 1) * half, -0.5, view.log_mel.shape[0] - 0.5)
    image = axes.imshow(
        decibels, origin="lower", aspect="auto", extent=extent, vmin=top - _RANGE_DB, vmax=top, cmap="magma"
    )
    places, names = band_ticks(view.frontend)
    axes.set_yticks(places, names)
    axes.set_ylabel("Hz")
    return image


def _draw_change(axes: Axes, view: View) -> None:
    axes.plot(view.times, view.change, color="#d55e00", linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("change")
    axes.grid(axis="x", color="0.9")
    if np.isnan(view.change).all():
        style = {"transform": axes.transAxes, "ha": "center", "va": "center", "color": "0.4"}
        axes.text(0.5, 0.5, "too short for this window", **style)


def _draw_similarity(axes: Axes, view: View) -> ScalarMappable:
    half = view.hop_ms / 2000
    first, last = view.times[0] - half, view.times[-1] + half
    # Coloured for windows within the file; those at its ends, half of them silence, are unlike all others.
    inside = view.inside if view.inside.any() else slice(None)
    low = float(np.percentile(view.similarity[inside][:, inside], 1))
    extent = (first, last, last, first)
    colours = {"vmin": min(low, 0.999), "vmax": 1, "cmap": "viridis"}
    image = axes.imshow(view.similarity, origin="upper", aspect="auto", extent=extent, **colours)
    axes.set_ylim(view.seconds, 0)
    axes.set_ylabel(f"time in seconds (windows of {view.frame_ms:g} ms every {view.hop_ms:g} ms)")
    return image


def thin(values: np.ndarray, columns: int, choose: np.ufunc = np.maximum) -> np.ndarray:
    """Highest (or lowest) values of each of at most ``columns`` equal stretches of time, the last axis.

    So short events stay visible.
    """
    n = values.shape[-1]
    starts = np.unique(np.linspace(0, n, min(columns, n), endpoint=False).astype(int))
    return choose.reduceat(values, starts, axis=-1)


def band_ticks(config: FrontendConfig) -> tuple[list[float], list[str]]:
    """Where round frequencies lie among the mel bands, counted from the lowest band's centre, and their names."""

    def mel(hz: float) -> float:
        return 2595 * np.log10(1 + hz / 700)

    low, high = mel(config.f_min), mel(config.f_max)
    step = (high - low) / (config.n_mels + 1)
    places = {hz: float((mel(hz) - low) / step - 1) for hz in _TICKS_HZ}
    inside = {hz: place for hz, place in places.items() if -0.5 <= place <= config.n_mels - 0.5}
    return list(inside.values()), [f"{hz:,}".replace(",", " ") for hz in inside]
