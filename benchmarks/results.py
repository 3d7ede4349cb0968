"""Writes docs/results.md from the frozen figures in benchmarks/results/.

    python benchmarks/results.py

Each table is a CSV file that one command made once; this script only lays it out.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TASKS = ("arabic_keywords", "esc10", "fsdd_digits", "nemo_emotion")
TASKS += ("philharmonia_instrument", "philharmonia_pitch", "speechocean_age_gender")

_HEAD = """\
# Results

The command above a table makes it; `python benchmarks/results.py` writes this page of the figures frozen in
`benchmarks/results/`. Speed is seconds of audio a second (x real time) on a virtual machine.
"""


@dataclass(frozen=True)
class Result:
    """A table of the page."""

    title: str  # its heading; empty for one more table under the same
    file: str  # in benchmarks/results/, without suffix; A+B: the rows of both
    text: str  # above the table, in Markdown
    command: str = ""  # that made it
    keep: Callable[[dict[str, str]], bool] = lambda row: True  # which of its rows are shown
    drop: tuple[str, ...] = ()  # columns that are not shown


RESULTS = (
    Result(
        "Seven small tasks",
        "models+peers",
        "Accuracy in % of a ridge probe on public tasks in HEAR format: stand-ins, *not* HEAR scores, so none "
        "may stand beside the paper's. int8: by `export --int8`; bfloat16: by that precision; another seed: by "
        "`pretrain --preset NAME --seed 1`. What the shipped models heard: [models](models.md#data).",
        "hear-byols evaluate --tasks tasks --output scores --models cnn_hybrid cvt_hybrid cnn_hybrid+cvt_hybrid",
    ),
    Result(
        "",
        "curve",
        "Over the training: means over the validation splits of the same tasks, audio in 16 bits; standard error 0.9.",
    ),
    Result(
        "",
        "studies",
        "Runs of the CNN over 38,400 crops that differ in one setting from the shipped one's: means over the "
        "validation splits. The standard error of a mean is 0.9.",
        "python benchmarks/studies.py --data clean/*.tar --other other/*.tar --tasks tasks --output studies",
        drop=TASKS,
    ),
    Result(
        "Events",
        "events",
        "F of onsets, times 100, on two synthesized tasks; linear probe.",
        """\
hear-byols tasks synthesize office -o made --sources tasks/esc10-v1-full --clips 24 8 16 --seconds 10 --density 0.5 1
hear-byols tasks synthesize notes -o made --sources tasks/philharmonia_pitch-v1-full --clips 12 6 8 --seconds 10
hear-byols evaluate --tasks made --output scores --models cnn_hybrid 'windows of 500 ms=cnn_hybrid{"frame_ms": 500}' \\
    logmel random_cnn random_cvt opensmile crepe""",
    ),
    Result(
        "",
        "detect",
        "`classify train --events` beside that probe on the office task, by seed: F of onsets within 200 ms, times "
        "100; error rate of segments of 1 s.",
        "python benchmarks/answers.py office --tasks tasks --output detect.csv",
        drop=("PSDS 1",),
    ),
    Result(
        "From recordings to answers",
        "answers",
        "The default model on one core, each command a process of its own.",
        "python benchmarks/answers.py times --tasks tasks --output answers.csv",
    ),
    Result(
        "",
        "million",
        "A folder of a million windows of 2,048 numbers (8.2 GB).",
        "python benchmarks/answers.py million --output million.csv",
    ),
    Result(
        "",
        "neighbours",
        "Among them, as `duplicates` looks for neighbours beyond 100,000 rows; copies: exact ones that come first.",
        "python benchmarks/answers.py neighbours --output neighbours.csv",
    ),
    Result(
        "Size of an installation",
        "sizes",
        "Python packages on the disk, with torch's build for CPUs; an extra adds to the core (none).",
        "python benchmarks/sizes.py --output sizes.csv",
        lambda row: row["extra"] in ("none", "[classify]", "[map]", "[all]", "[eval]", "[train]"),
        ("packages beyond the core's",),
    ),
    Result(
        "Agreement with hear-eval-kit",
        "agreement",
        "The kit's predictor and ours on the same log-mel statistics: means over seeds, times 100. Differences lie "
        "within the spread over the seeds.",
        """\
hear-byols tasks synthesize office -o made --clips 16 10 24 --seconds 10 --density 0.5 1 --level-db 6 12 --seed 1
python benchmarks/agreement.py --kits kits --work work --grid-points 2 --tasks tasks/philharmonia_instrument-v1-full
python benchmarks/agreement.py --kits kits --work work --grid-points 1 --tasks made/synthetic_office-v1-seed1""",
        lambda row: "seed 0" not in row["task, test clips"],
        ("hear-eval-kit, by seed", "ours, by seed"),
    ),
    Result(
        "Speed",
        "speed",
        "One thread. The original's way: `benchmarks/reference.py` on the same weights, one clip at a time, a "
        "spectrogram for each window. Share of limit: operations over the machine's rate of matrix products. Growth: "
        "the power of the length that the time grows with. YAMNet's windows of 0.96 s lie side by side.",
        "python benchmarks/speed.py",
        lambda row: row["model"] in ("CNN", "CvT") or row["clip (s)"] == "8",
        ("deviation", "original's peak GB", "original's growth"),
    ),
    Result(
        "",
        "speed_hour",
        "A clip of an hour.",
        "python benchmarks/speed.py --models CNN --lengths 3600 --turns 1 --ways ours",
    ),
    Result(
        "",
        "speed_ways",
        "CvT timestamps of 2 s compiled and in bfloat16, and how far their vectors are off.",
        "python benchmarks/speed.py --models CvT --calls timestamp --lengths 2 --turns 4 --ways ours compiled bfloat16 "
        "original",
        drop=("call", "clip (s)", "peak GB", "original's peak GB", "growth", "original's growth"),
    ),
    Result(
        "",
        "folder",
        "Scenes of 1,000 files of 1 to 10 s by `embed`: on one core, and what its parts take apart, of that; on two, "
        "and what a loop over the files takes there.",
        "python benchmarks/deploy.py folder --files 1000 --models cnn_hybrid cvt_hybrid yamnet",
        drop=("files", "audio (s)", "loading"),
    ),
    Result(
        "",
        "operators",
        "Where timestamps of 8 s spend processor time. All at the rate of matrix products they would be, by the table "
        "above, ratio / share, 10.9 (CNN) and 2.2 times (CvT) as fast as the original's way. A CvT's windows could "
        "share the first stage's token embedding, queries, keys and values.",
        "python benchmarks/operators.py --models CNN CvT --seconds 8 --turns 3",
        lambda row: row["work"] not in ("spectrograms", "GELU, ReLU"),
    ),
    Result(
        "ONNX",
        "onnx",
        "One thread, one clip of 10 s. Deviation: of the largest component.",
        "python benchmarks/deploy.py onnx --models random_cnn random_cvt\n"
        "python benchmarks/deploy.py onnx --models random_cnn random_cvt --int8",
        lambda row: row["clips"] == "1" and row["seconds"] == "10",
        ("clips", "seconds", "ratio"),
    ),
    Result(
        "Streaming",
        "streaming",
        "One thread; a chunk's processor time, and how long after its sound a vector is there.",
        "python benchmarks/deploy.py streaming --seconds 10",
        drop=("wall time (ms)", "95 %", "kept up (x)"),
    ),
    Result(
        "Workers",
        "workers",
        "Scenes of `cvt_hybrid` by workers of Ray.",
        "python benchmarks/deploy.py ray --files 300 --seconds 20",
        drop=("audio (s)",),
    ),
    Result(
        "Attacks",
        "fuzz",
        "3000 mutations of each kind: read rightly, refused by our error, read wrongly, ended in another library's "
        "error, hanging.",
        "python benchmarks/fuzz.py --csv benchmarks/results/fuzz.csv",
        drop=("attacks",),
    ),
)


def render() -> str:
    """The page."""
    return "\n".join([_HEAD, *map(_section, RESULTS)])


def _section(result: Result) -> str:
    lines = [f"## {result.title}\n"] if result.title else []
    lines.append(result.text + "\n")
    if "\n" in result.command:
        lines.append(f"<!-- not run: a measurement -->\n```bash\n{result.command}\n```\n")
    elif result.command:
        lines.append(f"`{result.command}`\n")
    return "\n".join([*lines, _table(result)])


def _table(result: Result) -> str:
    header, rows = [], []
    for name in result.file.split("+"):
        with open(HERE / "results" / f"{name}.csv", newline="", encoding="utf-8") as file:
            header, *more = csv.reader(file)
        rows += more
    kept = [i for i, name in enumerate(header) if name not in result.drop]
    shown = [row for row in rows if result.keep(dict(zip(header, row, strict=True)))]
    head, *body = (" | ".join(line[i] for i in kept) for line in (header, *shown))
    return "\n".join([head, "|".join(["---"] * len(kept)), *body]) + "\n"


if __name__ == "__main__":
    (HERE.parent / "docs" / "results.md").write_text(render(), encoding="utf-8")
