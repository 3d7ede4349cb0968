"""The import graph is a house: a room imports only from rooms below it, and the core never reaches for the extras."""

import ast
import sys
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
    "onnx.export": {"onnxruntime"},
    "onnx.int8": {"onnx", "onnxruntime"},
    "extraction.ray": {"ray"},
}
MAX_ROOT, MAX_LINES = 18, 300


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


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if room(module) in rooms:
            return level
    raise AssertionError(f"{room(module)} has no floor: add it to FLOORS")


def edges() -> list[tuple[str, str]]:
    """Imports from one room of another; the package's own lazy names lie in a function, and are no imports."""
    return [(name, target) for name in GRAPH for target in GRAPH[name] if room(name) != room(target)]


def test_a_room_imports_from_rooms_below_only():
    wrong = [f"{name} imports {target}" for name, target in edges() if floor(target) >= floor(name)]
    assert not wrong, f"not below: {wrong}"


def test_only_answers_and_the_command_line_enter_the_rooms_of_the_extras():
    above = {"answers", "cli"}
    wrong = [
        f"{name} imports {target}" for name, target in edges() if room(target) in APART and room(name) not in above
    ]
    assert not wrong


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


def test_the_core_needs_only_what_setup_lists():
    wrong = {}
    for name, path in modules().items():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        tops = {room(alias.name) for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        tops |= {room(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        foreign = tops - set(sys.stdlib_module_names) - {"hear_byols"} - CORE_NEEDS - EXTRAS.get(name, set())
        if foreign and room(name) not in APART:
            wrong[name] = foreign
    assert not wrong


def test_the_house_is_easy_to_see():
    at_root = [path.name for path in ROOT.glob("*.py")]
    assert len(at_root) <= MAX_ROOT, at_root
    long = {name for name, path in modules().items() if len(path.read_text().splitlines()) > MAX_LINES}
    assert long <= {"weights.locate"}


def test_this_test_sees_every_edge():
    """The floors would hold trivially over an empty graph."""
    assert {"encoders", "framing", "frontend"} <= GRAPH["model"]
    assert "weights.locate" in GRAPH["hear"]
    assert len(GRAPH) > 30
