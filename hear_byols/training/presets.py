"""Settings of every model that the paper trains (sections 3.1 to 3.4, Tables 5 to 7), by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hear_byols.errors import OptionError
from hear_byols.training.config import PretrainConfig

# Crops of 0.5, 0.95, 1.425 and 2 s (section 3.2). 96 frames are the default; 1.425 s is half as much again.
WINDOW_FRAMES = {500: 51, 950: 96, 1425: 144, 2000: 201}
RATIOS = ("1:4", "1:2", "2:3", "1:1", "3:2", "2:1", "4:1")


@dataclass(frozen=True)
class Preset:
    """A row of the paper.

    Args:
        paper: where it stands in the paper.
        data: the audio that the paper trained it on; ours is whatever ``--data`` names.
        settings: of :class:`~hear_byols.training.config.PretrainConfig`, where they differ from its defaults.
    """

    paper: str
    data: str = "AudioSet speech, 2190 h"
    settings: dict[str, Any] = field(default_factory=dict)


def _ratio(text: str) -> dict[str, float]:
    """Weights of alpha:beta that sum to 2, as 1:1 does: ratios then differ in balance, not in learning rate."""
    alpha, beta = (Fraction(part) for part in text.split(":"))
    return {"alpha": float(2 * alpha / (alpha + beta)), "beta": float(2 * beta / (alpha + beta))}


def _presets() -> dict[str, Preset]:
    rows = {
        "byol_a": Preset("BYOL-A, section 3.1", "AudioSet, 5800 h", {"encoder": "cnn"}),
        "byol_s": Preset("BYOL-S, section 3.1", settings={"encoder": "cnn"}),
        "byol_s_plus_plus": Preset(
            "BYOL-S++, section 3.1", "AudioSet speech and LibriSpeech, 3150 h", {"encoder": "cnn"}
        ),
    }
    for milliseconds, frames in WINDOW_FRAMES.items():
        settings = {"encoder": "cnn", "crop_frames": frames, "batch_size": 128}
        rows[f"byol_s_{milliseconds}ms"] = Preset(f"window {milliseconds / 1000:g} s, section 3.2", settings=settings)
    for encoder in ("resnetish34", "clstm", "cvt"):
        rows[f"byol_s_{encoder}"] = Preset("encoders, section 3.3", settings={"encoder": encoder})
    for encoder in ("cnn", "cvt"):
        settings = {"encoder": encoder, "targets": "opensmile"}
        rows[f"hybrid_{encoder}"] = Preset("hybrid models, section 3.4", settings=settings)
    for ratio in RATIOS:
        settings = {"encoder": "cvt", "targets": "opensmile", **_ratio(ratio)}
        name = f"hybrid_cvt_{ratio.replace(':', '_')}"
        rows[name] = Preset(f"alpha:beta = {ratio}, section 3.4", settings=settings)
    return rows


PRESETS = _presets()


def make_config(preset: str = "", **overrides: Any) -> PretrainConfig:
    """Settings of a preset, with some of them replaced.

    Args:
        preset: a key of :data:`PRESETS`; empty for the defaults.
        **overrides: fields of :class:`~hear_byols.training.config.PretrainConfig`.

    Raises:
        OptionError: no such preset or setting, or a value out of range.
    """
    if preset and preset not in PRESETS:
        raise OptionError(f"no preset is called {preset!r}; accepted: {', '.join(PRESETS)}")
    unknown = set(overrides) - set(PretrainConfig.__dataclass_fields__)
    if unknown:
        raise OptionError(f"no such setting: {', '.join(sorted(unknown))}")
    return PretrainConfig(**{**(PRESETS[preset].settings if preset else {}), **overrides})
