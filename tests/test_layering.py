"""The import graph is a ladder: a module imports only from lower rungs, and the core never reaches for the extras."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import hear_byols

ROOT = Path(hear_byols.__file__).parent
# A file imports only from rungs below its own. A package's name covers its modules that are not listed themselves.
RUNGS = [
    {"errors", ""},  # "" is the package itself: its version
    {"config", "files", "memory", "precision", "normalization", "zoo", "demo"},
    {
        "framing",
        "frontend",
        "inputs",
        "audio",
        "original",
        "encoders.pooling",
        "encoders.folding",
        "encoders.multilayer",
    },
    {"encoders.conv_block"},
    {"encoders.cnn", "encoders.resnetish", "encoders.clstm", "encoders.cvt"},
    {"encoders.build"},
    {"encoders"},
    {"model", "checkpoint"},
    {"weights", "opensmile", "concatenated", "sources"},
    {"hear", "formats", "readahead", "onnx_graph", "streaming"},
    {"variants._bind", "outfolder", "sklearn", "model_card", "onnx_export"},
    {"variants", "extract", "publish"},
    {"ray_worker"},
    {"ray_engine"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
CORE_NEEDS = {"torch", "numpy", "huggingface_hub", "safetensors", "soundfile", "soxr", "tqdm"}
# Modules that bring an extra with them, and import it only when used.
EXTRAS = {
    "opensmile": {"opensmile"},
    "sklearn": {"sklearn"},
    "formats": {"pyarrow"},
    "onnx_export": {"onnxruntime"},
    "ray_engine": {"ray"},
}
# Rooms of the extras "train", "eval" and "analysis". Nothing enters them but the commands that are their doors.
APART = {
    "training": {"commands.pretrain"},
    "evaluation": {"commands.evaluate", "commands.tasks"},
    "analysis": {"commands.cka", "commands.map", "commands.look"},
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below hear_byols."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a file imports anywhere in it, type-checking blocks aside."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner.removeprefix("hear_byols.") in known else node.module)
    return {name.removeprefix("hear_byols").removeprefix(".") for name in names if name.split(".")[0] == "hear_byols"}


GRAPH = {name: imports(path, set(modules())) - {name} for name, path in modules().items()}


def rung(name: str) -> int:
    """The rung of a module, or of the package it belongs to."""
    while True:
        for level, names in enumerate(RUNGS):
            if name in names:
                return level
        assert "." in name, f"{name} is on no rung; add it to RUNGS"
        name = name.rpartition(".")[0]


@pytest.mark.parametrize("name", [name for name in GRAPH if name.split(".")[0] not in APART])
def test_a_module_imports_from_lower_rungs_only(name):
    for target in GRAPH[name]:
        room = target.split(".")[0]
        if room in APART:
            assert name in APART[room], f"{name} imports {target}"
        else:
            assert rung(target) < rung(name), f"{name} imports {target}, which is not below it"


@pytest.mark.parametrize("name", [name for name in GRAPH if name.split(".")[0] in APART])
def test_a_room_apart_does_not_enter_another(name):
    others = {target for target in GRAPH[name] if target.split(".")[0] in APART}
    assert {target.split(".")[0] for target in others} <= {name.split(".")[0]}


def test_no_cycles():
    finished: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import cycle: {' -> '.join((*trail, name))}"
        if name not in finished:
            for target in GRAPH.get(name, ()):
                visit(target, (*trail, name))
            finished.add(name)

    for name in GRAPH:
        visit(name, ())


@pytest.mark.parametrize("name", [name for name in GRAPH if name.split(".")[0] not in APART])
def test_the_core_needs_only_what_setup_lists(name):
    tree = ast.parse(modules()[name].read_text())
    tops = {alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    tops |= {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = tops - set(sys.stdlib_module_names) - {"hear_byols"}
    assert foreign <= CORE_NEEDS | EXTRAS.get(name, set())


def test_this_test_sees_every_edge():
    """The rungs would hold trivially over an empty graph."""
    assert {"encoders", "framing", "frontend"} <= GRAPH["model"]
    assert "weights" in GRAPH["hear"]
    assert len(GRAPH) > 30
