"""``hear-byols info``: what a checkpoint is."""

import argparse
import json
from typing import Any

from hear_byols._util.files import file_digest
from hear_byols._util.tables import one_line
from hear_byols.cli.options import add_command


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    description = "Show a checkpoint's configuration, provenance and digest."
    parser = add_command(subparsers, "info", "describe a checkpoint", run, description)
    parser.add_argument("checkpoint", help="name, file or hf://owner/repo/file")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    from hear_byols.hear import load_model
    from hear_byols.weights.locate import locate

    source = locate(args.checkpoint)
    path, model = source.path, load_model(args.checkpoint)
    config = getattr(model, "config", None)
    description = {
        "name": source.record.name if source.record else None,
        "file": str(path) if path else None,
        "bytes": path.stat().st_size if path else None,
        "sha256": file_digest(path) if path else None,
        "n_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sample_rate": model.sample_rate,
        "scene_embedding_size": model.scene_embedding_size,
        "timestamp_embedding_size": model.timestamp_embedding_size,
        "config": config.to_dict() if config else None,
        "provenance": model.provenance,
    }
    if args.json:
        print(json.dumps(description, indent=2))
        return 0
    lines = _lines(description)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {one_line(value, 1000)}")
    return 0


def _lines(content: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines = []
    for key, value in content.items():
        if isinstance(value, dict) and value:
            lines += _lines(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            lines += [(prefix + key, "; ".join(map(str, item.values()))) for item in value]  # a source a line
        elif isinstance(value, list):
            lines.append((prefix + key, ", ".join(map(str, value)) or "-"))
        else:
            lines.append((prefix + key, "-" if value is None else str(value)))
    return lines
