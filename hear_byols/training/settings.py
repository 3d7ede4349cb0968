"""Settings of a run as a TOML file: written by every run, read by ``--config``."""

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from hear_byols._util.files import output_path
from hear_byols._util.imports import require
from hear_byols.errors import OptionError
from hear_byols.training.config import PretrainConfig

_FORMER = {"band_limit": 0.0, "identity_norm": False}  # settings that every run.toml before 5.2 has, at their defaults


def write_settings(config: PretrainConfig, path: Path) -> None:
    """Write all settings, one a line."""
    settings = dataclasses.asdict(config).items()
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings]  # as TOML has them
    with output_path(path) as part:
        part.write_text("".join(lines), encoding="utf-8")


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read settings from a file, as :func:`~hear_byols.training.presets.make_config` takes them.

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
    defaults = dataclasses.asdict(PretrainConfig())
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
