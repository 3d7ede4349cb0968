"""The import graph is a house: a room imports only from rooms below it, and the core never reaches for the extras."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import hear_byols

ROOT = Path(hear_byols.__file__).parent
# Rooms and modules of the root, from the ground up: each imports from those above its line only. A room's own modules
# may import one another, without a cycle.
FLOORS = [
    {"errors", ""},  # "" is the package itself: its version
    {"_util"},
    {"config", "normalization", "framing", "interface", "containers"},
    {"frontend", "inputs", "audio", "encoders"},
    {"scenes"},
    {"model", "weights"},
    {"opensmile", "concatenated", "teachers"},
    {"streaming", "onnx"},
    {"hear"},
    {"variants", "publish", "extraction"},
    {"sklearn", "ecosystem"},
    {"training", "evaluation", "analysis"},  # the extras' rooms: none enters another
    {"answers"},  # what people do with embeddings, by what the rooms below can
    {"cli"},
    {"__main__"},
]
APART = {"training", "evaluation", "analysis"}
CORE_NEEDS = {"torch", "numpy", "huggingface_hub", "safetensors", "soundfile", "soxr", "tqdm"}
# Modules that bring an extra with them, and import it only when used.
EXTRAS = {
    "opensmile": {"opensmile"},
    "sklearn": {"sklearn"},
    "containers.ffmpeg": {"av"},
    "ecosystem.mteb": {"mteb"},
    "ecosystem.transformers": {"transformers"},
    "extraction.formats": {"pyarrow"},
    "onnx.export": {"onnx", "onnxruntime"},
    "extraction.ray": {"ray"},
}


# Every module of the package by its dotted name below hear_byols.
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere in it, type-checking blocks aside."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            yield node
            for child in ast.iter_child_nodes(node):
                yield from walk(child)

    names = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                names.add(inner if inner.removeprefix("hear_byols.") in MODULES else node.module)
    return {name.removeprefix("hear_byols").removeprefix(".") for name in names if name.split(".")[0] == "hear_byols"}


GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[0]


def test_a_room_imports_from_rooms_below_only():
    """Every room has its floor; the package's own lazy names lie in a function, and are no imports."""
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    edges = [(name, target) for name in GRAPH for target in GRAPH[name] if room(name) != room(target)]
    wrong = [f"{name} imports {target}" for name, target in edges if floor[room(target)] >= floor[room(name)]]
    assert not wrong, f"not below: {wrong}"


def test_no_cycles():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which shows one


def test_the_core_needs_only_what_setup_lists():
    wrong = {}
    for name, path in MODULES.items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        tops = {room(alias.name) for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        tops |= {room(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        foreign = tops - set(sys.stdlib_module_names) - {"hear_byols"} - CORE_NEEDS - EXTRAS.get(name, set())
        if foreign and room(name) not in APART:
            wrong[name] = foreign
    assert not wrong


def test_the_house_is_easy_to_see():
    at_root = [path.name for path in ROOT.glob("*.py")]
    assert len(at_root) <= 18, at_root
    long = {name for name, path in MODULES.items() if len(path.read_text().splitlines()) > 300}
    assert not long


def test_this_test_sees_every_edge():
    """The floors would hold trivially over an empty graph."""
    assert {"encoders", "framing", "frontend"} <= GRAPH["model"]
    assert "weights.locate" in GRAPH["hear"]
    assert len(GRAPH) > 30
