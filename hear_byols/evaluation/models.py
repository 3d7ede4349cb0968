"""Models to evaluate: ours by name or file, any HEAR module, and their concatenations."""

import hashlib
import importlib.util
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

from hear_byols import __version__
from hear_byols._util.files import file_digest
from hear_byols._util.imports import import_hear_module
from hear_byols.errors import OptionError
from hear_byols.hear import split_spec
from hear_byols.weights.locate import existing_file, locate, shipped_dir
from hear_byols.weights.registry import find_record, known_record, list_models
from hear_byols.weights.teachers import list_teachers

ALIASES = {name: f"hear_byols.evaluation.adapters.{name}" for name in ("logmel", "crepe", "wav2vec2")}
_BACKENDS = {"crepe": "torchcrepe", "wav2vec2": "transformers", "opensmile": "opensmile"}
_LABEL = re.compile(r"([^=+:/{}]+)=(.+)")
_PLUS = re.compile(r"\+(?![^{]*\})")  # not within the braces of options


def digest_of(content: Any) -> str:
    """Digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ModelSpec:
    """A HEAR module with its weights and options."""

    module: str  # importable name
    weights: str = ""  # first argument of its load_model; empty for none
    options: str = "{}"  # its other arguments, JSON with sorted keys

    @property
    def name(self) -> str:
        """Short name, fit for a folder."""
        base = os.path.basename(self.weights) or self.module.removeprefix("hear_byols.evaluation.adapters.")
        suffix = "" if self.options == "{}" else "-" + re.sub(r"[\W_]+", "-", self.options).strip("-")
        return re.sub(r"[^\w.-]+", "-", base + suffix)

    def identity(self) -> str:
        """Digest of everything the embeddings depend on: module, versions, weights and options.

        Raises:
            HearByolsError: the weights are not to be had.
        """
        content: dict[str, Any] = {"module": self.module, "weights": self.weights, "options": self.options}
        if self.module == "hear_byols":
            path = locate(self.weights).path
            content["weights"] = file_digest(path) if path else known_record(self.weights).name
        elif os.path.isfile(self.weights):
            content["weights"] = file_digest(self.weights)
        package = _BACKENDS.get(self.name.partition("-")[0], self.module.partition(".")[0])
        content["versions"] = [__version__, _version(package)]
        source = getattr(import_hear_module(self.module), "__file__", None)
        content["source"] = file_digest(source) if source else ""
        return digest_of(content)

    def load(self) -> tuple[ModuleType, Any]:
        """Import the module and load its model."""
        module = import_hear_module(self.module)
        return module, module.load_model(*[self.weights] * bool(self.weights), **json.loads(self.options))


@dataclass(frozen=True)
class Model:
    """One row of the table, under its label: a part, or several whose embeddings are joined."""

    label: str
    parts: tuple[ModelSpec, ...]

    @property
    def wants_standardizing(self) -> bool:
        """Whether the paper standardizes its embeddings per fold: openSMILE and concatenations (section 3.4)."""
        return len(self.parts) > 1 or any("opensmile" in part.weights + part.module for part in self.parts)


def parse_models(texts: Iterable[str]) -> list[Model]:
    """Models as the command line names them.

    Each is ``[LABEL=]PART[+PART...]``, and a part ``NAME[{JSON options}]`` with the name of a model of the zoo, a file,
    ``hf://...``; ``logmel``, ``crepe`` or ``wav2vec2``; a HEAR module such as ``hearbaseline.torchcrepe``; or
    ``module:weights``.

    Raises:
        OptionError: a part is none of these, or two models have one label.
    """
    models = []
    for text in texts:
        match = _LABEL.fullmatch(text)
        label, spec = (match[1].strip(), match[2]) if match else (text, text)
        pieces = _PLUS.split(spec) if "{" in spec else map(str, split_spec(spec))
        models.append(Model(label, tuple(map(_parse_part, pieces))))
    twice = sorted(label for label, n in Counter(model.label for model in models).items() if n > 1)
    if twice:
        raise OptionError(f"two models are called {', '.join(twice)}; write LABEL=MODEL")
    return models


def _parse_part(text: str) -> ModelSpec:
    name, brace, rest = text.partition("{")
    given = brace + rest
    try:
        options = json.dumps(json.loads(given or "{}"), sort_keys=True)
    except ValueError as error:
        text = f'options of a model are JSON, such as {{"frame_ms": 500}}; got {given!r} ({error})'
        raise OptionError(text) from None
    shipped = os.path.basename(name) == name and (shipped_dir() / name).is_file()
    if name not in ALIASES and (name.startswith("hf://") or find_record(name) or existing_file(name) or shipped):
        return ModelSpec("hear_byols", name, options)
    module, _, weights = name.partition(":")
    if module in ALIASES or _exists(module):
        return ModelSpec(ALIASES.get(module, module), weights, options)
    names = ", ".join([*list_models(), *list_teachers(), *ALIASES])
    raise OptionError(
        f"no model {name[:200]!r}: neither a name ({names}) nor a file nor "
        "hf://owner/repo/file nor a HEAR module that can be imported, such as hearbaseline.torchcrepe or module:weights"
    )


def _exists(module: str) -> bool:
    try:
        return bool(re.fullmatch(r"[\w.]+", module)) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


@cache  # to look through all packages takes a moment
def _version(package: str) -> str:
    names = metadata.packages_distributions().get(package, [package])
    try:
        return f"{package} {metadata.version(names[0])}"
    except metadata.PackageNotFoundError:
        return package
