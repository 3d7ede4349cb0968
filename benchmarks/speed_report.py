"""Tables and the picture of ``speed.py``."""

from __future__ import annotations

import argparse
import csv
import math
import platform
from pathlib import Path

import numpy as np
import torch

TARGETS = (  # (what, encoder, call, seconds, least ratio to the reference)
    ("timestamps, CvT", "cvt", "timestamp", 60, 4.0),
    ("timestamps, CNN", "cnn", "timestamp", 60, 3.0),
    ("scene, CvT", "cvt", "scene", 60, 8.0),
)
NAMES = {"cnn": "CNN", "cvt": "CvT", "resnetish34": "ResNetish-34", "clstm": "CLSTM"}
COLOURS = {"cnn": "#0072b2", "cvt": "#d55e00", "resnetish34": "#009e73", "clstm": "#7a5195"}


def progress(row: dict) -> str:
    """One line about a finished case."""
    seconds = ", ".join(f"{side} {row[f'{side}_s']:.3f} s" for side in ("ours", "reference") if f"{side}_s" in row)
    return f"{row['encoder']} {row['call']} {row['clips']} x {row['seconds']} s: {seconds or 'not run'}"


def write(rows: list[dict], stem: Path, args: argparse.Namespace) -> None:
    """Write ``stem``.md, .csv and .png."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(stem.with_suffix(".csv"), "w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)
    parts = [_machine(rows, args), _targets(rows), _speeds(rows), _growth(rows)]
    stem.with_suffix(".md").write_text("\n\n".join(part for part in parts if part) + "\n")
    _picture(rows, stem.with_suffix(".png"))


def slope(rows: list[dict], encoder: str, call: str, side: str) -> float | None:
    """Fitted exponent of the time's growth with the length, single clips of 5 s and more; None under three points."""
    points = [
        (row["seconds"], row[f"{side}_s"])
        for row in rows
        if (row["encoder"], row["call"], row["clips"]) == (encoder, call, 1)
        and row["seconds"] >= 5
        and f"{side}_s" in row
    ]
    if len(points) < 3:
        return None
    return float(np.polyfit(*np.log(points).T, 1)[0])


def _floor(value: float, digits: int = 1) -> str:
    """Rounded down: a speed is never said to be higher than it was."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def _speed(row: dict, side: str) -> str:
    """Seconds of audio per second, or why not."""
    if f"{side}_s" not in row:
        forecast = row.get(f"{side}_forecast_s", 0)
        return f"not run (about {forecast:.0f} s)" if side == "ours" else "not run"
    return _floor(row["seconds"] * row["clips"] / row[f"{side}_s"])


def _peak(row: dict, side: str) -> str:
    return f"{row[f'{side}_peak_bytes'] / 1e9:.2f}" if f"{side}_peak_bytes" in row else ""


def _quotient(row: dict, above: str, below: str, form: str) -> str:
    return form.format(row[above] / row[below]) if above in row and below in row else ""


def _machine(rows: list[dict], args: argparse.Namespace) -> str:
    where = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else platform.machine()
    rate = rows[0]["matrix_rate"] / 1e9
    compiled = ", compiled" if args.compile else ""
    return (
        f"torch {torch.__version__}, {where}, {args.threads} threads, {args.precision}{compiled}. Matrix products: "
        f"{rate:.0f} GFLOP/s (best of the run)."
    )


def _targets(rows: list[dict]) -> str:
    lines = ["| target | wanted | measured | the limit would allow |", "|---|---|---|---|"]
    for what, encoder, call, seconds, wanted in TARGETS:
        key = (encoder, call, seconds, 1)
        for row in rows:
            if (row["encoder"], row["call"], row["seconds"], row["clips"]) != key or "reference_s" not in row:
                continue
            measured = _floor(row["reference_s"] / row["ours_s"], 2)
            allowed = _floor(row["reference_s"] / row["limit_s"], 2)
            lines.append(f"| {what}, {seconds} s | {wanted:g}x | {measured}x | {allowed}x |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _speeds(rows: list[dict]) -> str:
    head = (
        "| encoder | call | clips | audio x real time | reference | ratio | share of limit | peak GB | reference |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    lines = []
    for row in rows:
        cells = [
            NAMES[row["encoder"]],
            row["call"],
            f"{row['clips']} x {row['seconds']} s",
            _speed(row, "ours"),
            _speed(row, "reference"),
            _quotient(row, "reference_s", "ours_s", "{:.2f}"),
            _quotient(row, "limit_s", "ours_s", "{:.0%}"),
            _peak(row, "ours"),
            _peak(row, "reference"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([head, *lines])


def _growth(rows: list[dict]) -> str:
    lines = []
    for encoder, call in dict.fromkeys((row["encoder"], row["call"]) for row in rows):
        fits = [slope(rows, encoder, call, side) for side in ("ours", "reference")]
        if fits[0] is not None:
            lines.append(
                f"| {NAMES[encoder]} | {call} | {' | '.join('' if fit is None else f'{fit:.2f}' for fit in fits)} |"
            )
    if not lines:
        return ""
    head = (
        "Time grows as length to the power of (fitted from 5 s on):\n\n"
        "| encoder | call | here | reference |\n|---|---|---|---|"
    )
    return "\n".join([head, *lines])


def _picture(rows: list[dict], path: Path) -> None:
    """Speed against length, single clips: full lines the package, dashed the reference, dotted the limit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    calls = list(dict.fromkeys(row["call"] for row in rows))
    figure, axes = pyplot.subplots(1, len(calls), figsize=(4.6 * len(calls), 4.2), sharey=True, squeeze=False)
    for axis, call in zip(axes[0], calls, strict=True):
        for encoder in dict.fromkeys(row["encoder"] for row in rows):
            _lines(axis, [row for row in rows if (row["encoder"], row["call"], row["clips"]) == (encoder, call, 1)])
        lengths = sorted({row["seconds"] for row in rows if row["call"] == call})
        axis.set(xscale="log", yscale="log", xlabel="length of the clip (s)", title=f"{call} embeddings")
        axis.set_xticks(lengths, [str(length) for length in lengths])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds of audio per second")
    for style, label in (("-", "hear_byols"), ("--", "as the original does it"), (":", "limit of matrix products")):
        axes[0][-1].plot([], [], style, color="0.3", label=label)
    figure.legend(*_legend(axes[0]), loc="lower center", ncols=4, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _lines(axis, rows: list[dict]) -> None:
    for name, style, width in (("ours_s", "-o", 1.8), ("reference_s", "--s", 1.2), ("limit_s", ":", 1.2)):
        points = [(row["seconds"], row["seconds"] / row[name]) for row in rows if name in row]
        if points:
            label = NAMES[rows[0]["encoder"]] if name == "ours_s" else None
            colour = COLOURS[rows[0]["encoder"]]
            axis.plot(*zip(*points, strict=True), style, color=colour, linewidth=width, markersize=4, label=label)


def _legend(axes) -> tuple[list, list[str]]:
    """Every label once."""
    pairs = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return list(pairs.values()), list(pairs)
