"""The manifest of an output folder: what made the embeddings, and the state of the work."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hear_byols._util.files import atomic_path
from hear_byols.errors import OutputError
from hear_byols.extraction.index import writing

SCHEMA = "hear_byols-embeddings/1"


class Manifest:
    """``manifest.json``: what the embeddings depend on, JSON-able; what is under ``about`` may differ between runs."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = {"schema": SCHEMA, **settings}

    def read(self) -> dict[str, Any] | None:
        """The content, None if there is no file.

        Raises:
            OutputError: it cannot be read, or is no manifest of this version.
        """
        try:
            content = json.loads(self.path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            raise OutputError(f"{self.path} cannot be read ({error}); choose another output folder") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise OutputError(f"{self.path} is not a manifest of this version; choose another output folder")
        return content

    def compare(self, known: Mapping[str, Any]) -> None:
        """Make sure that what the folder holds was made with these settings.

        Raises:
            OutputError: it was not; the differences are named.
        """
        old, new = _flat(known), _flat(json.loads(json.dumps(self._settings)))
        names = [name for name in new if not name.startswith("about.") and old.get(name) != new[name]]
        if names:
            differences = "; ".join(f"{name} was {old.get(name)!r}, now {new[name]!r}" for name in names)
            raise OutputError(
                f"{self.path.parent} holds embeddings made with other settings: {differences}. Choose another output "
                "folder, or start anew in this one with --overwrite (overwrite=True)"
            )

    def write(self, state: Mapping[str, Any]) -> None:
        """Replace the file: the settings, and the state of the work."""
        with writing(self.path), atomic_path(self.path) as part:
            part.write_text(json.dumps({**self._settings, **state}, indent=2) + "\n", encoding="ascii")


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return flat
