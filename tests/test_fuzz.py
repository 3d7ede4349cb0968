"""A short run of every attack of ``benchmarks/fuzz.py``, and proof that it would tell."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz


@pytest.mark.parametrize("kind", ["audio", "index", "pth", "safetensors", "calls"])
def test_attacks_end_fine_or_in_one_clear_error(kind, capsys):
    assert fuzz.main([kind, "--count", "60", "--seed", "7"]) == 0, capsys.readouterr().out
    assert "0 wrong, 0 foreign, 0 hang" in capsys.readouterr().out


def test_other_outcomes_are_told(tmp_path, monkeypatch, capsys):
    def kind(folder: Path, chance: random.Random):
        yield lambda: "fine"
        yield lambda: "wrong"
        yield lambda: {}["missing"]

    monkeypatch.setitem(fuzz.KINDS, "test", kind)
    assert fuzz.main(["test", "--count", "3"]) == 1
    out = capsys.readouterr().out
    assert "1 fine, 0 refused, 1 wrong, 1 foreign, 0 hang" in out
    assert "attack 2: KeyError: 'missing'" in out
