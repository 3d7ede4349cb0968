"""What a setting of pre-training is worth: short runs that differ in it alone, scored by the linear probe.

    python benchmarks/studies.py ratios --data audio/ --tasks tasks/ --output studies --accelerator cpu --threads 1

Writes ``studies/ratios.md`` and ``.png``. Every run is a ``hear-byols pretrain`` of the base below with the study's
setting and the options not known here; runs, embeddings and scores are kept and shared between studies, so that a
study that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from study_model import PADDINGS, POOLINGS

from hear_byols.config import LAYERS

BASE = """--encoder cnn --targets opensmile --batch-size 32 --steps 300 --learning-rate 5e-4 --schedule cosine
--warmup 0.05 --ema-decay 0.998 --head-hidden 1024 --mel-scale 1 1 --silence 0.3 --fader 1 --rate-fan-in 256
--normalization halfway --precision bf16-mixed --log-steps 10 --no-tensorboard --quiet"""
SELF = "--targets none"
CVT = "--encoder cvt"
RATIOS = {"1 to 4": "0.4 1.6", "1 to 2": "0.6667 1.3333", "2 to 3": "0.8 1.2", "1 to 1": "1 1"}
RATIOS |= {"3 to 2": "1.2 0.8", "2 to 1": "1.3333 0.6667", "4 to 1": "1.6 0.4"}
CROP_SECONDS = 0.95
MADE_CROPS = "--feature-crops 5000"  # which are as good as 20,000, and sooner extracted


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Args:
        label: of the row.
        settings: added to the base.
        options: of ``load_model``, JSON.
        module: with the HEAR API, which loads the checkpoint.
        made: synthetic audio beside the data, folders of ``--made``.
        recorded: whether the data is used at all.
    """

    label: str
    settings: str = ""
    options: str = ""
    module: str = "hear_byols"
    made: tuple[str, ...] = ()
    recorded: bool = True

    @property
    def audio(self) -> str:
        """Name of the cache's folder: empty for the data alone."""
        return "_".join((*(() if self.recorded else ("only",)), *self.made))

    @property
    def run(self) -> str:
        """Name of the run's folder."""
        return re.sub(r"[^\w.]+", "_", f"{self.settings.replace('--', '')} {self.audio}").strip("_") or "base"


def _changed(**options: str) -> Variant:
    """The base run, used in another way."""
    [label] = options.values()
    return Variant(label, options=json.dumps(options), module="study_model")


def _weights(pair: str) -> str:
    alpha, beta = pair.split()
    return "" if pair == "1 1" else f"--alpha {alpha} --beta {beta}"


STUDIES = {
    "objective": [
        Variant("self-supervised", SELF),
        Variant("hybrid"),
        Variant("features only", "--beta 0"),
    ],
    "ratios": [Variant(f"alpha to beta {name}", _weights(pair)) for name, pair in RATIOS.items()],
    "windows": [
        Variant(f"{seconds} s", SELF + (f" --crop-frames {frames}" if frames != 96 else ""))
        for seconds, frames in ((0.5, 51), (0.95, 96), (1.425, 144), (2, 201))
    ],
    "sounds": [
        Variant("real", SELF),
        Variant("half synthetic", f"{SELF} --synthetic 0.5"),
        Variant("synthetic", f"{SELF} --synthetic 1"),
    ],
    "made": [
        Variant(label, MADE_CROPS, made=made, recorded=recorded)
        for label, made, recorded in (
            ("recorded", (), True),
            ("and speech", ("speech",), True),
            ("and music", ("music",), True),
            ("and both", ("speech", "music"), True),
            ("both alone", ("speech", "music"), False),
        )
    ],
    "crops": [
        Variant(f"{name} {steps * 32:,}", f"{settings} --steps {steps}" if steps != 300 else settings)
        for name, settings, lengths in (
            ("hybrid", "", (75, 300, 1200)),
            ("hybrid 1 to 4", "--alpha 0.4 --beta 1.6", (300, 4800)),
            ("self-supervised", SELF, (300, 1200, 4800)),
            ("CvT hybrid", CVT, (300, 1200, 3000)),
            ("CvT self-supervised", f"{CVT} {SELF}", (300, 1200)),
        )
        for steps in lengths
    ],
    "hours": [
        Variant(f"{n * CROP_SECONDS / 3600:.1f} h", f"--feature-crops {n}" if n != 20_000 else "")
        for n in (1250, 5000, 20_000)
    ],
    "rates": [
        Variant("one rate", "--rate-fan-in 0"),
        Variant("fan-in 256"),
        Variant("fan-in 64", "--rate-fan-in 64"),
        Variant("fan-in 16", "--rate-fan-in 16"),
    ],
    "start": [
        Variant("batch norm as in torch"),
        Variant("as the identity", "--identity-norm"),
    ],
    "views": [
        Variant("bands scaled, as in the paper", "--mel-scale 0.6 1.5 --silence 0 --fader 0"),
        Variant("bands fixed", "--silence 0 --fader 0"),
        Variant("and silence", "--fader 0"),
        Variant("and fading levels"),
        Variant("and band limits", "--band-limit 0.3"),
    ],
    "normalization": [
        Variant("each clip's own", options='{"normalization": "clip"}'),
        Variant("halfway"),
        Variant("the data set's", options='{"normalization": "dataset"}'),
    ],
    "layers": [
        Variant(f"{name}, {layers}", settings, options=json.dumps({"layers": layers}))
        for name, settings in (
            ("CNN 9,600", ""),
            ("CNN 38,400", "--steps 1200"),
            ("CNN 38,400, seed 43", "--steps 1200 --seed 43"),
            ("CvT 96,000", f"{CVT} --steps 3000"),
        )
        for layers in LAYERS
    ],
    "pooling": [_changed(pooling=name) for name in POOLINGS],
    "padding": [Variant("as the clips are"), *(_changed(padding=name) for name in PADDINGS)],
    "seeds": [
        Variant("9,600 crops, seed 42"),
        Variant("9,600 crops, seed 43", "--seed 43"),
        Variant("38,400 crops, seed 42", "--steps 1200"),
        Variant("38,400 crops, seed 43", "--steps 1200 --seed 43"),
    ],
}


def pretrain(variant: Variant, args: argparse.Namespace) -> Path:
    """Train, or do nothing if that was done; returns the checkpoint."""
    folder = args.output / "runs" / variant.run
    data = [*(args.data if variant.recorded else ()), *(str(args.made / name) for name in variant.made)]
    command = [sys.executable, "-m", "hear_byols", "pretrain", "--data", *data, "--output", str(folder)]
    command += ["--cache", str((args.cache or args.output / "cache") / variant.audio)]
    subprocess.run([*command, *BASE.split(), *variant.settings.split(), *args.rest], check=True)
    return folder / "encoder.pth"


def score(models: dict[str, str], args: argparse.Namespace) -> dict[str, dict[str, tuple[float, float]]]:
    """Scores on the test and validation rows, in percent, by label and task."""
    folder = args.output / "scores"
    command = [sys.executable, "-m", "hear_byols", "evaluate", "--output", str(folder), "--quiet"]
    command += ["--tasks", *args.tasks, "--models", *(f"{label}={model}" for label, model in models.items())]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
    found: dict[str, dict[str, tuple[float, float]]] = {label: {} for label in models}
    with open(folder / "scores.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["model"] in found and row["validation"]:  # the task's own score
                found[row["model"]][row["task"]] = 100 * float(row["mean"]), 100 * float(row["validation"])
    return found


def write(scores: dict[str, dict[str, tuple[float, float]]], stem: Path) -> None:
    """Write the table and the picture; the validation rows, which the probe chose its strength by, decide."""
    tasks = list(next(iter(scores.values())))
    means = {
        label: [sum(pair) / len(tasks) for pair in zip(*row.values(), strict=True)] for label, row in scores.items()
    }
    header = ["", *(task.split("-")[0] for task in tasks), "mean", "validation mean"]
    rows = [
        [label, *(f"{row[task][0]:.1f}" for task in tasks), *(f"{mean:.1f}" for mean in means[label])]
        for label, row in scores.items()
    ]
    lines = [header, ["---"] * len(header), *rows]
    stem.with_suffix(".md").write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for task in tasks:
        axes.plot(list(scores), [row[task][0] for row in scores.values()], ".-", alpha=0.5, label=task.split("-")[0])
    axes.plot(list(means), [test for test, _ in means.values()], "ko-", linewidth=2.5, label="mean")
    axes.plot(list(means), [valid for _, valid in means.values()], "ks--", alpha=0.6, label="validation mean")
    axes.set_ylabel("score of the linear probe on test rows, %")
    plt.setp(axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(stem.with_suffix(".png"), dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="of audio and features; default: OUTPUT/cache")
    parser.add_argument(
        "--made", type=Path, help="folder of synthetic_audio.py's speech/ and music/, for the study made"
    )
    args, args.rest = parser.parse_known_args(argv)
    if args.study == "made" and args.made is None:
        parser.error("the study made needs --made, the folder with synthetic_audio.py's speech/ and music/")
    models = {v.label: f"{v.module}:{pretrain(v, args)}{v.options}" for v in STUDIES[args.study]}
    write(score(models, args), args.output / args.study)


if __name__ == "__main__":
    main()
