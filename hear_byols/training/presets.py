"""Settings by name and from files: of every model of the paper, of the shipped ones, and of every run.

The paper's models stand in its sections 3.1 to 3.4 and Tables 5 to 7.
"""

import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from hear_byols._util.files import output_path
from hear_byols._util.imports import require
from hear_byols.errors import OptionError
from hear_byols.training.config import PretrainConfig

# Crops of 0.5, 0.95, 1.425 and 2 s (section 3.2). 96 frames are the default; 1.425 s is half as much again.
WINDOW_FRAMES = {500: 51, 950: 96, 1425: 144, 2000: 201}
RATIOS = ("1:4", "1:2", "2:3", "1:1", "3:2", "2:1", "4:1")
_FORMER = {"band_limit": 0.0, "identity_norm": False}  # settings that every run.toml before 5.2 has, at their defaults


@dataclass(frozen=True)
class Preset:
    """A row of the paper, or a shipped model."""

    source: str  # where it stands in the paper, or which file it makes
    data: str = "AudioSet speech, 2190 h"  # the audio behind it; that of a run is whatever ``--data`` names
    settings: dict[str, Any] = field(default_factory=dict)  # where they differ from the defaults of PretrainConfig
    first: str = ""  # the preset whose encoder it begins with; empty: none


@dataclass(frozen=True)
class Run:
    """One of the runs of a preset, which follow one another."""

    preset: str  # that its settings began with; empty: none
    folder: Path  # of what it writes
    config: PretrainConfig


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


# Hybrid BYOL-S with the learnable extractors of section 4.4, on openly licensed audio.
_TAUGHT = {
    "targets": "smart_turn+moonshine+mn04+resemblyzer+swift_f0",
    "teacher_precision": "bfloat16",
    "precision": "bfloat16",
    "beta": 0.0,
    "part_weight": 0.3,
    "teacher_components": 256,
    "schedule": "cosine",
    "warmup": 0.05,
    "weight_decay": 1e-4,
    "clip_norm": 5.0,
    "dropout": 0.0,
    "equalizer": 8.0,
    "layers": "heads",
    "half": True,
}
# On a CPU, with lessons on disk: first of the features themselves. On a GPU, with lessons made in the step.
_CPU = {"feature_crops": 98_304, "batch_size": 128, "learning_rate": 1e-3, "steps": 3000, "seed": 43}
_CPU_FIRST = {**_CPU, "feature_crops": 196_608, "steps": 11_000, "restarts": (4000,), "seed": 42}
_CPU_FIRST |= {"teacher_components": 0, "equalizer": 0.0}
_GPU = {"feature_crops": 0, "replays": 2, "batch_size": 512, "learning_rate": 1.5e-3, "steps": 8340}
# BYOL-S for short runs: gentler views and heads, wide layers at a lower rate.
_SELF_SUPERVISED = {
    "precision": "bfloat16",
    "batch_size": 32,
    "steps": 1200,
    "learning_rate": 5e-4,
    "schedule": "cosine",
    "warmup": 0.05,
    "rate_fan_in": 256,
    "ema_decay": 0.998,
    "head_hidden": 1024,
    "mel_scale": (1.0, 1.0),
    "fader": 1.0,
    "silence": 0.3,
    "normalization": "halfway",
    "layers": "multi",
    "half": True,
}


def _shipped() -> dict[str, Preset]:
    data = "openly licensed audio"
    settings = {"encoder": "cnn", **_TAUGHT, **_CPU_FIRST}
    rows = {"cnn_hybrid_first": Preset("the first run of cnn_hybrid", data, settings)}
    for encoder, machine in (("cnn", _CPU), ("cvt", _GPU)):
        for kind, settings in (("hybrid", {**_TAUGHT, **machine}), ("byols", _SELF_SUPERVISED)):
            name = f"{encoder}_{kind}"
            first = f"{name}_first" if f"{name}_first" in rows else ""
            rows[name] = Preset(f"the shipped {name}", data, {"encoder": encoder, **settings}, first)
    return rows


PRESETS = {**_shipped(), **_presets()}


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


def make_runs(preset: str, output: str | os.PathLike[str], **overrides: Any) -> list[Run]:
    """The runs that a preset stands for: one, or one that goes on from the encoder of another in ``output/first``.

    Args:
        preset: as of :func:`make_config`.
        output: folder of the last run.
        **overrides: settings of all of them; with ``init`` there is no first one.

    Raises:
        OptionError: as of :func:`make_config`.
    """
    config = make_config(preset, **overrides)
    first = PRESETS[preset].first if preset and not config.init else ""
    if not first:
        return [Run(preset, Path(output), config)]
    folder = Path(output).resolve() / "first"
    last = replace(config, init=str(folder / "encoder.pth"))
    return [Run(first, folder, make_config(first, **overrides)), Run(preset, Path(output), last)]


def write_settings(config: PretrainConfig, path: Path) -> None:
    """Write all settings, one a line."""
    settings = asdict(config).items()
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings]  # as TOML has them
    with output_path(path) as part:
        part.write_text("".join(lines), encoding="utf-8")


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read settings from a file, as :func:`make_config` takes them.

    Raises:
        OptionError: the file cannot be read, is not TOML, names no setting, or gives one of another type.
        MissingDependencyError: Python 3.10 without tomli.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read as a file of settings ({error})") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, name: str) -> dict[str, Any]:
    """Read settings from TOML text; ``name`` is what an error calls it, see :func:`read_settings`."""
    toml = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "--config on Python 3.10", "train")
    try:
        given = toml.loads(text)
    except ValueError as error:
        raise OptionError(f"{name}: settings are lines like steps = 9 or mel_scale = [0.6, 1.5] ({error})") from error
    given = {name: value for name, value in given.items() if _FORMER.get(name) != value}
    defaults = asdict(PretrainConfig())
    unknown = given.keys() - defaults.keys()
    if unknown:
        raise OptionError(f"{name} names no such setting: {', '.join(sorted(unknown))}; known: {', '.join(defaults)}")
    return {name: _checked(name, value, defaults[name]) for name, value in given.items()}


def _checked(name: str, value: Any, default: Any) -> Any:
    """A value as its setting has it: whole numbers are numbers, lists are tuples of numbers."""
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and isinstance(value, list):
        if all(type(x) is int for x in value) and PretrainConfig.__dataclass_fields__[name].type == tuple[int, ...]:
            return tuple(value)
        if all(type(x) in (int, float) for x in value):
            return tuple(map(float, value))
    if type(value) is not type(default):
        raise OptionError(f"{name} must be like {default!r}, got {value!r}")
    return value
