"""What decided the recipe of the hybrids: short runs that differ in one setting, by the validation splits of tasks.

    python benchmarks/studies.py --data clean/*.tar --other other/*.tar --tasks tasks --output studies

All runs hear the same lessons (features are extracted once, below OUTPUT) for the same time: a step with L_ss costs
8/3 of one without. One more hears as many lessons of the audio of ``--other`` too. Writes
benchmarks/results/studies.csv; a run that is there is not repeated.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

from hear_byols.training.presets import Run, make_config
from hear_byols.training.run import Hardware, pretrain

RESULTS = Path(__file__).parent / "results" / "studies.csv"
STEPS = 300
WITH_L_SS = round(4 * STEPS / (3 + 8 / 3))  # steps that cost the same if every fourth has L_ss
ARMS: dict[str, dict] = {
    "as shipped": {},
    "the teachers' features themselves": {"teacher_components": 0},
    "no equalizer": {"equalizer": 0.0},
    "no stretches of crops": {"part_weight": 0.0},
    "L_ss in every 4th step, equal cost": {"beta": 1.0, "self_supervised_every": 4, "steps": WITH_L_SS},
    "halfway normalization": {"normalization": "halfway"},
    "cosine instead of MSE": {"teacher_loss": "cosine"},
    "Smart Turn weighs twice": {"teacher_weights": (2.0, 1.0, 1.0, 1.0, 1.0)},
    "heads on all layers, which are the vector": {"heads_on": "multi", "layers": "multi"},
    "another seed": {"seed": 1},
    "ResNetish-34 instead of the CNN": {"encoder": "resnetish34"},
    "CLSTM instead of the CNN, no stretches of crops": {"encoder": "clstm", "part_weight": 0.0},
}
READINGS = {"as shipped, the paper's vector": "last", "as shipped, all layers": "multi"}
OTHER = "as shipped, with audio under other licences"


def train(name: str, settings: dict, data: list[str], output: Path, workers: int) -> Path:
    """The encoder of one run, trained unless it is there; lessons are kept by the audio that they are made of."""
    config = make_config("cnn_hybrid", **{"steps": STEPS, "seed": 42, "feature_crops": 32 * 512, **settings})
    folder = output / name.replace(" ", "_")
    finished = folder / "finished"
    if not finished.exists():
        cache = output / f"cache of {len(data)}"
        pretrain([Run("", folder, config)], data, cache, Hardware("cpu", workers=workers), tensorboard=False)
        finished.touch()
    return folder / "encoder.pth"


def validation(models: list[str], tasks: str, output: Path) -> dict[str, dict[str, float]]:
    """Validation accuracy of every model on every task, in %."""
    command = [sys.executable, "-m", "hear_byols", "evaluate", "--tasks", tasks, "--output", str(output / "scores")]
    subprocess.run([*command, "--quiet", "--models", *models], check=True)
    scores: dict[str, dict[str, float]] = {}
    with open(output / "scores" / "scores.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["validation"]:
                scores.setdefault(row["model"], {})[row["task"]] = 100 * float(row["validation"])
    return scores


def main() -> None:
    """Run all arms and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--other", nargs="*", default=[])
    parser.add_argument("--tasks", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1, help="processes that extract features")
    arguments = parser.parse_args()
    models = []
    for name in [*ARMS, *([OTHER] if arguments.other else [])]:
        data = arguments.data + arguments.other * (name == OTHER)
        path = train(name, ARMS.get(name, {}), data, arguments.output, arguments.workers)
        models.append(f"{name}={path}")
        if name == "as shipped":
            models += [f"{row}={path}{json.dumps({'layers': layers})}" for row, layers in READINGS.items()]
        write(validation(models, arguments.tasks, arguments.output))


def write(scores: dict[str, dict[str, float]]) -> None:
    """One row a run: its validation accuracy in %."""
    with open(RESULTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        tasks = sorted(next(iter(scores.values())))
        writer.writerow(["setting", *(task.split("-v")[0] for task in tasks), "mean"])
        for name in [*list(ARMS)[:1], *READINGS, *list(ARMS)[1:], OTHER]:
            if name in scores:
                row = scores[name]
                writer.writerow([name, *(f"{row[task]:.1f}" for task in tasks), f"{sum(row.values()) / len(row):.1f}"])


if __name__ == "__main__":
    main()
