"""Writes docs/results.md from the frozen figures in benchmarks/results/.

    python benchmarks/results.py

Each table is a CSV file that one command made once; this script only lays it out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "results.md"
Row = dict[str, str]

_HEAD = """\
# Results

Measured once each, with the command above the table; `python benchmarks/results.py` writes this page from
`benchmarks/results/*.csv`. Speed is seconds of audio a second (x real time) of two cores of a virtual machine unless
the heading says otherwise; other machines give other figures.
"""


@dataclass(frozen=True)
class Result:
    """A table of the page.

    Args:
        title: its heading; empty for one more table under the same.
        file: in benchmarks/results/, without suffix.
        text: above the table, in Markdown.
        command: that made it.
        keep: which of its rows are shown.
        drop: columns that are not shown.
    """

    title: str
    file: str
    text: str
    command: str = ""
    keep: Callable[[Row], bool] = lambda row: True
    drop: tuple[str, ...] = ()


RESULTS = (
    Result(
        "Seven small tasks",
        "models",
        "Accuracy in % of a ridge probe on public tasks in HEAR format. They are stand-ins and *not* HEAR scores: none "
        "may stand beside the paper's. Rows without a name are reference figures of the same probe. What the shipped "
        "models heard: [models](models.md#data).",
    ),
    Result(
        "",
        "curve",
        "`cnn_hybrid` over its training: means over the validation splits of the same tasks, audio in 16 bits.",
    ),
    Result(
        "Models and their peers",
        "peers",
        "The same tasks by `hear-byols evaluate`, linear probe, with two synthesized event tasks.",
        """\
hear-byols tasks synthesize office -o made --sources tasks/esc10-v1-full --clips 24 8 16 --seconds 10 --density 0.5 1
hear-byols tasks synthesize notes -o made --sources tasks/philharmonia_pitch-v1-full --clips 12 6 8 --seconds 10
hear-byols evaluate --tasks tasks made --output scores --models logmel random_cnn random_cvt random_resnetish34 \\
    random_clstm opensmile cnn_byols cvt_byols crepe""",
    ),
    Result("", "peers_cost", "Their cost on one core, and the process's peak over all tasks:"),
    Result(
        "Events",
        "events",
        "The default on the two synthesized event tasks, linear probe.",
        """\
hear-byols evaluate --tasks made --output scores --models cnn_hybrid \\
    'windows of 500 ms=cnn_hybrid{"frame_ms": 500}'""",
    ),
    Result(
        "Events by a detector",
        "detect",
        "`classify train --events` on the training and validation clips beside `evaluate`'s linear probe, on the test "
        "clips of the office task, made with several seeds. F within 200 ms, times 100; error rate of segments of 1 s.",
        "python benchmarks/answers.py office --tasks tasks --output detect.csv",
    ),
    Result(
        "From recordings to answers",
        "answers",
        "The default model; seconds of one core, each command a process of its own.",
        "python benchmarks/answers.py times --tasks tasks --output answers.csv",
    ),
    Result(
        "Agreement with hear-eval-kit",
        "agreement",
        "The kit's predictor and ours on the same stored log-mel statistics, over seeds; scores times 100.",
        """\
hear-byols tasks synthesize office -o made --clips 12 4 8 --seconds 10 --density 0.5 1
hear-byols tasks synthesize office -o made --clips 16 10 24 --seconds 10 --density 0.5 1 --level-db 6 12 --seed 1
python benchmarks/agreement.py --kits kits --work work --grid-points 2 --tasks tasks/philharmonia_instrument-v1-full
python benchmarks/agreement.py --kits kits --work work --grid-points 1 --tasks made/synthetic_office-v1-seed0""",
    ),
    Result(
        "Speed",
        "speed",
        "One thread. The original's way is a plain reference on the same weights (`benchmarks/reference.py`: one clip "
        "at a time, a spectrogram for each window, batch norm as a layer, all attention scores written out). Share of "
        "limit: operations done over the machine's rate of matrix products. Growth: the power of the length that the "
        "time grows with. YAMNet hears a clip once, in windows of 0.96 s side by side, whatever the call.",
        "python benchmarks/speed.py",
    ),
    Result(
        "",
        "speed_bfloat16",
        "bfloat16 on two cores with matrix units for it (AMX), beside the reference in float32:",
    ),
    Result("ONNX", "onnx", "One thread; a ratio above 1: onnxruntime is faster.", "python benchmarks/deploy.py onnx"),
    Result("Streaming", "streaming", "One thread.", "python benchmarks/deploy.py streaming --seconds 10"),
    Result(
        "Attacks",
        "fuzz",
        "Mutations of files and of calls, and how they ended: right, in one error of ours, and what must not be.",
        "python benchmarks/fuzz.py --csv benchmarks/results/fuzz.csv",
    ),
    Result("Workers", "workers", "Scenes of `cvt_hybrid`.", "python benchmarks/deploy.py ray --files 300 --seconds 20"),
)


def render() -> str:
    """The page."""
    return "\n".join([_HEAD, *map(_section, RESULTS)])


def _section(result: Result) -> str:
    lines = [f"## {result.title}\n"] if result.title else []
    lines.append(result.text + "\n")
    if result.command:
        lines.append(f"<!-- not run: a measurement -->\n```bash\n{result.command}\n```\n")
    return "\n".join([*lines, _table(result)])


def _table(result: Result) -> str:
    with open(HERE / "results" / f"{result.file}.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    kept = [i for i, name in enumerate(header) if name not in result.drop]
    shown = [row for row in rows if result.keep(dict(zip(header, row, strict=True)))]
    lines = [header, ["---"] * len(header), *shown]
    return "\n".join("| " + " | ".join(line[i] for i in kept) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
