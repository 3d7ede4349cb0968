"""The documentation tells the truth: its Python runs, its links lead somewhere, public names say what they take."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import hear_byols
from hear_byols.cli.demo_sounds import write_examples

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speech, music = write_examples(tmp_path)[:2]
    speech.rename("speech.wav")
    music.rename("music.flac")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL):
        exec(block, names)  # as a reader would paste it
    assert names["scene"].shape == (1, 3584)
    assert names["windows"].shape[1] == names["times"].shape[1] > 1
    assert names["vectors"].shape == (2, 3584)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_deviations_name_tests_that_exist():
    text = (ROOT / "docs" / "deviations.md").read_text()
    named = re.findall(r"`(?:tests/)?((?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`", text)
    assert len(named) > 15
    for file, test in named:
        source = (ROOT / "tests" / file).read_text()
        assert not test or f"def {test}(" in source, f"{file} has no {test}"


@pytest.mark.parametrize("name", [name for name in hear_byols.__all__ if name != "__version__"])
def test_public_names_are_documented(name):
    value = getattr(hear_byols, name)
    text = inspect.getdoc(value) or ""
    assert text, f"{name} has no docstring"
    if inspect.isfunction(value):
        parameters = inspect.signature(value).parameters
        assert "Args:" in text or not parameters
        for parameter in parameters:
            assert f"{parameter}:" in text or f"{parameter}``" in text, f"{name} does not describe {parameter}"
        for note in inspect.signature(value).parameters.values():
            assert note.annotation is not inspect.Parameter.empty, f"{name}: {note.name} has no type"
