"""The manual tells the truth: its blocks run, its links lead somewhere, its figures are the frozen ones."""

import inspect
import io
import re
import runpy
import shlex
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from real_audio import RATE, clip_of
from task_folders import SPLITS, write_task

import hear_byols
from hear_byols.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What a block needs of the extras; without them it is skipped.
NEEDS = {
    "sklearn": "sklearn",
    "onnxruntime": "onnxscript",
    "hear-byols export": "onnxscript",
    "hear-byols cka": "matplotlib",
}
NEEDS |= {'load_model("opensmile")': "opensmile", "hear-byols classify": "sklearn"}
NEEDS |= {"transformers": "transformers", "datasets": "datasets", "xares": "xares", "mteb": "mteb"}
NEEDS |= {"hear-byols evaluate": "sed_eval", "hear_byols.analysis": "matplotlib", "hear-byols pretrain": "lightning"}
# Pages with tests of their own, or of measurements.
ELSEWHERE = ("CHANGELOG.md", "classifiers.md", "search.md")
HAND_WRITTEN = [page for page in PAGES if page.name not in ELSEWHERE]


def write(path: Path, kind: int, number: int = 0, seconds: float = 1.5) -> None:
    """A real clip of a class, or a made one where there are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, clip_of(kind, number, seconds), RATE)


def write_clips_task(folder: Path) -> None:
    """A scene task in HEAR format, of a few clips of five of the classes."""
    splits = {
        split: {f"{number}-{kind}.wav": [str(kind)] for kind, number in product(range(5), range(3 * i, 3 * i + 3))}
        for i, split in enumerate(SPLITS)
    }
    write_task(folder, splits, list("01234"), sample_duration=1.5)
    for split, clips in splits.items():
        for name, (kind,) in clips.items():
            write(folder / "16000" / split / name, int(kind), int(name[0]))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what the manual's examples speak of."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "speech.wav", 0)
    write(tmp_path / "more.mp3", 6)
    for name, kind in (("low", 5), ("high", 8)):  # a helicopter and a rooster
        write(tmp_path / "recordings" / f"{name}.wav", kind, seconds=4)
        for i in range(2):
            write(tmp_path / "classes" / name / f"{i}.wav", kind, i)
    write_clips_task(tmp_path / "tasks" / "clips")
    return tmp_path


def extras() -> set[str]:
    """Names of the package's extras."""
    return set(re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), re.MULTILINE))


def run_bash(block: str, monkeypatch) -> None:
    """Run what the package does of a block of shell commands, in this process; check the form of the rest."""
    for line in block.replace("\\\n", " ").splitlines():
        piped, _, command = line.rpartition(" | ")
        words = shlex.split(command, comments=True)
        if not words:
            continue
        if words[0] == "hear-byols":
            if piped:  # find recordings ... -print0
                files = "\0".join(map(str, sorted(Path("recordings").glob("*.wav"))))
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(files.encode())))
            assert main(words[1:]) == 0, line
        else:
            assert words[:2] == ["pip", "install"], f"a command of the manual that no test runs: {line}"
            wanted = re.fullmatch(r"\.(?:\[([a-z,]+)\])?", words[2])
            assert wanted, f"another form than the manual's: {line}"
            assert not wanted[1] or set(wanted[1].split(",")) <= extras(), line


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=lambda page: page.name)
def test_every_block_of_the_manual_runs(page, here, monkeypatch):
    """In order, as a reader would paste them; those marked "not run" say why."""
    text = page.read_text()
    names: dict = {"microphone": [np.zeros(8000, np.float32), np.full(16000, 0.1, np.float32)]}
    assert len(re.findall(r"^```(?:bash|python)$", text, re.MULTILINE)) == len(BLOCK.findall(text))
    for skipped, language, block in BLOCK.findall(text):
        if skipped or (page.name == "README.md" and "venv" in block):  # continuous integration runs those two
            continue
        for word, module in NEEDS.items():
            if word in block:
                pytest.importorskip(module)
        if language == "bash":
            run_bash(block, monkeypatch)
        else:
            exec(block, names)
        if "save_checkpoint" in block:
            assert Path("mine.pth").is_file()


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_results_page_is_made_of_the_frozen_figures():
    script = runpy.run_path(str(ROOT / "benchmarks" / "results.py"))
    assert (ROOT / "docs" / "results.md").read_text() == script["render"](), "run python benchmarks/results.py"


def test_public_names_are_documented():
    for name in set(hear_byols.__all__) - {"__version__"}:
        value = getattr(hear_byols, name)
        text = inspect.getdoc(value) or ""
        assert text, f"{name} has no docstring"
        for parameter in inspect.signature(value).parameters.values() if inspect.isfunction(value) else ():
            described = f"{parameter.name}:" in text.partition("Args:")[2] or f"{parameter.name}``" in text
            assert described, f"{name} does not describe {parameter}"
            assert parameter.annotation is not inspect.Parameter.empty, f"{name}: {parameter.name} has no type"
