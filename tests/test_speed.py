"""The speed benchmark measures what it says: it runs as a whole, and its arithmetic is right."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
pytest.importorskip("matplotlib")
import speed  # noqa: E402
import speed_limit  # noqa: E402
import speed_report  # noqa: E402

from hear_byols.framing import Framing  # noqa: E402


def run(tmp_path: Path, *options: str) -> dict[str, str]:
    """Run one case of the CNN on clips of one second; its row."""
    command = [sys.executable, "speed.py", "--encoders", "cnn", "--calls", "scene", "--lengths", "1", "--clips", "2"]
    options = (*options, "--turns", "2", "--threads", "1", "--output", str(tmp_path / "out" / "speed"))
    subprocess.run([*command, *options], cwd=BENCHMARKS, check=True, timeout=300)
    assert "| CNN | scene | 2 x 1 s |" in (tmp_path / "out" / "speed.md").read_text()
    assert (tmp_path / "out" / "speed.png").read_bytes().startswith(b"\x89PNG")
    [row] = csv.DictReader((tmp_path / "out" / "speed.csv").open())
    return row


def test_one_command_gives_table_numbers_and_picture(tmp_path):
    row = run(tmp_path)
    for side in ("ours", "reference"):
        assert float(row["limit_s"]) < float(row[f"{side}_s"]) < 60
        assert 1e8 < float(row[f"{side}_peak_bytes"]) < 1e10


def test_one_command_on_a_gpu(tmp_path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    row = run(tmp_path, "--device", "cuda", "--precision", "bfloat16")
    assert 0 < float(row["ours_peak_bytes"]) < 1e10


def test_operations_are_those_of_a_count_by_hand():
    """Twice the products of the CNN: three 3x3 convolutions over halving maps, two linear layers a time step."""
    convolutions = 64 * 104 * 9 * 64 + 32 * 52 * 64 * 9 * 64 + 16 * 26 * 64 * 9 * 64
    linear = 13 * (512 * 2048 + 2048 * 2048)
    assert speed_limit.operations("cnn", 104) == 2 * (convolutions + linear)
    windows = Framing(1000, 50, 16000)
    per_window = speed_limit.operations("cnn", 101)
    assert (
        speed_limit.operations_of_call("cnn", "timestamp", clips=3, seconds=2, framing=windows) == 3 * 41 * per_window
    )
    assert speed_limit.operations_of_call("cnn", "scene", 3, 2, windows) == 3 * speed_limit.operations("cnn", 201)


def test_attention_is_counted():
    """Of the CvT's first stage alone, over 60 s: 24,016 queries, 6,008 keys, two products of 64 values each."""
    linear = 60 * speed_limit.operations("cvt", 101)
    assert speed_limit.operations("cvt", 6001) > 2 * 2 * 24016 * 6008 * 64 + 0.7 * linear


def test_growth_is_the_exponent():
    rows = [
        {"encoder": "cvt", "call": "scene", "clips": 1, "seconds": seconds, "ours_s": 3e-3 * seconds**1.5}
        for seconds in (1, 5, 30, 60)
    ]
    assert speed_report.slope(rows, "cvt", "scene", "ours") == pytest.approx(1.5)
    assert speed_report.slope(rows, "cvt", "scene", "reference") is None


def test_what_would_take_too_long_is_forecast_and_not_run():
    rows = [{"encoder": "cvt", "call": "timestamp", "clips": 1, "seconds": 60, "ours_s": 5.0, "reference_s": 15.0}]
    args = speed.parse(["--patience", "60"])
    case = speed.Case("cvt", "timestamp", 600, 1)
    assert speed.forecast(case, "reference", rows) == pytest.approx(150)
    assert speed.allowed_sides(case, rows, args) == ["ours"]
    assert speed.allowed_sides(speed.Case("cvt", "timestamp", 3600, 1), rows, args) == ["ours"]


def test_a_batch_is_forecast_from_a_batch_and_whole_clips_of_the_cvt_by_the_square():
    kind = {"encoder": "cvt", "call": "scene"}
    rows = [
        {**kind, "clips": 1, "seconds": 600, "ours_s": 40.0},
        {**kind, "clips": 64, "seconds": 5, "ours_s": 2.0},
    ]
    assert speed.forecast(speed.Case(**kind, clips=64, seconds=30), "ours", rows) == pytest.approx(12)
    assert speed.forecast(speed.Case(**kind, clips=64, seconds=600), "ours", rows) == pytest.approx(2 * 120 * 120)


def test_the_reference_is_not_run_where_its_scores_do_not_fit():
    """Ten minutes: 240,000 queries by 60,000 keys are 58 GB."""
    args = speed.parse([])
    assert speed.allowed_sides(speed.Case("cvt", "scene", 60, 1), [], args) == ["ours", "reference"]
    assert speed.allowed_sides(speed.Case("cvt", "scene", 600, 1), [], args) == ["ours"]
