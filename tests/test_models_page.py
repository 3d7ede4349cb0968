"""The page about the shipped weights says what their files say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hear_byols.weights.checkpoint import Checkpoint, read_checkpoint
from hear_byols.weights.registry import WeightRecord, find_record, list_models

ROOT = Path(__file__).parents[1]
SHIPPED = [record for record in map(find_record, list_models()) if record.source == "shipped"]
PAGE = (ROOT / "docs" / "models.md").read_text()
SECTIONS = dict(re.findall(r"^## `?(.+?)`?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(params=SHIPPED, ids=lambda record: record.name)
def shipped(request: pytest.FixtureRequest) -> tuple[WeightRecord, Checkpoint]:
    return request.param, read_checkpoint(ROOT / "checkpoints" / request.param.file)


def test_a_section_gives_the_facts_of_the_file(shipped):
    record, checkpoint = shipped
    training = checkpoint.provenance["training"]
    settings = {**training, **training.get("settings", {})}
    facts = [record.sha256, f"{training['steps']:,} steps", f"{training['crops_seen']:,} crops"]
    facts += [
        f"seed {settings['seed']}",
        f"{training['hours']:.1f} hours",
        checkpoint.provenance["licence"],
        *(["audEERING"] if "notice" in checkpoint.provenance else []),
    ]
    section = SECTIONS[record.name]
    assert [fact for fact in facts if fact not in section] == []
    assert "hear-byols pretrain" in section or "scratch driver" in section
    assert "Limits:" in section


def test_the_data_is_that_of_the_file(shipped):
    _, checkpoint = shipped
    rows = [
        f"| {s['name']} | {s['hours']:.2f} | {s['licence']} | {s['content']} |" for s in checkpoint.provenance["data"]
    ]
    assert [row for row in rows if row not in SECTIONS["Data"]] == []


def test_scores_of_the_readme_are_those_of_the_page():
    def scores(text: str) -> dict[str, str]:
        return dict(re.findall(r"^\| `(\w+)` \| ((?:[\d.]+ \| ){7}[\d.]+) \|$", text, re.MULTILINE))

    page, readme = scores(SECTIONS["Scores"]), scores((ROOT / "README.md").read_text())
    assert {record.name for record in SHIPPED} <= page.keys()
    assert {name: page[name] for name in readme} == readme
