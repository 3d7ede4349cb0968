"""The model card that goes with published weights: a README with the Hub's metadata on top."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hear_byols._util.files import file_digest
from hear_byols.encoders import build_encoder
from hear_byols.weights.checkpoint import Checkpoint

# Licences the Hub knows by an identifier of its own; others are "other" with their name.
_HUB_LICENCES = {
    "mit",
    "apache-2.0",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
    "gpl-3.0",
    "openrail",
}
_TAGS = ("audio", "speech", "audio-embeddings", "self-supervised", "hear", "byol-s")


def model_card(checkpoint: Checkpoint, files: Sequence[Path], repo: str, revision: str = "main") -> str:
    """Write a model card.

    Args:
        checkpoint: the content of the files.
        files: the weights as they are uploaded, the one to recommend first.
        repo: ``owner/name`` on the Hub.
        revision: branch.

    Returns:
        Markdown, with a YAML block on top.
    """
    provenance, config = checkpoint.provenance, checkpoint.config
    at = "" if revision == "main" else f"@{revision}"
    spec = f"hf://{repo}/{files[0].name}{at}#sha256={file_digest(files[0])}"
    with torch.device("meta"):
        encoder = build_encoder(config.encoder, config.frontend.n_mels)
    n_parameters = sum(value.numel() for value in checkpoint.state_dict.values())
    notice = [f"> {_one_line(provenance['notice'])}", ""] if provenance.get("notice") else []
    lines = [
        *_metadata(str(provenance["licence"]), config.encoder.name),
        f"# {_one_line(provenance.get('name') or files[0].stem)}",
        "",
        _one_line(provenance.get("description") or "Audio embeddings in the BYOL-S family."),
        "",
        *notice,
        f"Encoder `{config.encoder.name}`, {n_parameters / 1e6:.1f} M values. Embeddings of "
        f"{encoder.embedding_size} values from mono audio at {config.frontend.sample_rate} Hz, "
        f"normalisation `{config.normalization.mode}`.",
        "",
        "## Use",
        "```python",
        "import hear_byols",
        "",
        f'model = hear_byols.load_model("{spec}")',
        "vectors = hear_byols.get_scene_embeddings(audio, model)  # audio: float32, (n_clips, n_samples)",
        "```",
        "",
        "## Files",
        "| file | bytes | sha256 |",
        "|---|---|---|",
        *(f"| {file.name} | {file.stat().st_size} | `{file_digest(file)}` |" for file in files),
        "",
        *_data(provenance.get("data")),
        "## Provenance",
        *_bullets({key: value for key, value in provenance.items() if key != "data"}),
        "",
        "## Configuration",
        "```json",
        json.dumps(config.to_dict(), indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _metadata(licence: str, encoder: str) -> list[str]:
    """The Hub's YAML block; JSON strings are YAML strings."""
    identifier = "-".join(licence.lower().split())
    known = identifier in _HUB_LICENCES
    return [
        "---",
        f"license: {identifier if known else 'other'}",
        *([] if known else [f"license_name: {json.dumps(_one_line(licence)[:100])}"]),
        "library_name: hear_byols",
        "pipeline_tag: feature-extraction",
        "tags:",
        *(f"- {tag}" for tag in (*_TAGS, encoder)),
        "---",
    ]


def _data(sources: object) -> list[str]:
    """What the weights were trained on: a table where it is a list of sources, as pre-training writes it."""
    if not sources:
        return []
    if not (isinstance(sources, list) and all(isinstance(source, Mapping) for source in sources)):
        return ["## Data", *_bullets({"data": sources}), ""]
    names = list(dict.fromkeys(name for source in sources for name in source))
    rows = [[source.get(name, "") for name in names] for source in sources]
    lines = [names, ["---"] * len(names), *rows]
    hours = [source.get("hours") for source in sources]
    total = [f"{sum(hours):.1f} hours in all.", ""] if all(isinstance(h, int | float) for h in hours) else []
    return ["## Data", *(f"| {' | '.join(map(_cell, line))} |" for line in lines), "", *total]


def _cell(text: object) -> str:
    return _one_line(text).replace("|", "\\|")


def _bullets(content: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield f"{indent}- {_one_line(key)}:"
            yield from _bullets(value, indent + "  ")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{indent}- {_one_line(key)}: {_one_line(text) or '-'}"


def _one_line(text: object) -> str:
    """Foreign text that cannot end a line, and so not start a heading, a table or another YAML entry."""
    return " ".join(str(text).split())
