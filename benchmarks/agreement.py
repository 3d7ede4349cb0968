"""The same embeddings through the real hear-eval-kit and through hear_byols.evaluation.

    python benchmarks/agreement.py --kits ENVIRONMENT --tasks TASK... --work FOLDER

ENVIRONMENT is a virtual environment with heareval and this package's requirements (docs/hear-kits.md). The kit embeds
every task and trains its classifiers, once with its fixed seed and then with random ones; ours reads the embeddings
that the kit stored. Prints CSV of test scores in percent. What is there already is not run again.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from hear_byols.evaluation.embeddings import Embeddings
from hear_byols.evaluation.probe import Search, probe_mlp
from hear_byols.evaluation.probe_data import data_of_splits
from hear_byols.evaluation.scorer import make_scorer
from hear_byols.evaluation.tasks import Task, read_task

ROOT = Path(__file__).resolve().parents[1]
MODULE = "hear_byols.evaluation.adapters.logmel"
RUNS = 3  # seeds of each side
# The kit tells the trainer which epoch's post-processing to test with by setting an attribute of its fit loop, which
# Lightning looks at no more: without this, every event task ends with a KeyError under Lightning 1.9.
LAUNCHER = """
import runpy, sys
import pytorch_lightning
def current_epoch(trainer):
    loop = trainer.fit_loop
    return loop.__dict__.get("current_epoch", loop.epoch_progress.current.processed)
pytorch_lightning.Trainer.current_epoch = property(current_epoch)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kits", type=Path, required=True, help="virtual environment with heareval")
    parser.add_argument("--tasks", type=Path, nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--grid-points", type=int, default=2)
    args = parser.parse_args()
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["task", "score", "hear-eval-kit, by seed", "ours, by seed", "means", "difference"])
    for folder in args.tasks:
        task = read_task(folder)
        embedded = embed(args, folder.resolve())
        theirs = [predict(args, embedded, run) for run in range(RUNS)]
        ours = [probe(args, task, embedded, seed) for seed in range(RUNS)]
        for name in task.evaluation:
            sides = [100 * kit_score(each, name) for each in theirs], [100 * each[name] for each in ours]
            by_seed = [" ".join(f"{value:.2f}" for value in values) for values in sides]
            kit, own = map(np.mean, sides)
            writer.writerow([task.name, name, *by_seed, f"{kit:.2f} / {own:.2f}", f"{own - kit:+.2f}"])


def embed(args: argparse.Namespace, task: Path) -> Path:
    """The kit's embeddings of a task."""
    done = args.work / "embeddings" / MODULE / task.name
    if not any((done / f"{split}.embeddings.npy").exists() for split in ("test", "fold00")):
        tasks = args.work / "tasks" / task.name
        tasks.mkdir(parents=True, exist_ok=True)
        (tasks / task.name).unlink(missing_ok=True)
        (tasks / task.name).symlink_to(task, target_is_directory=True)
        call = ["heareval.embeddings.runner", MODULE, "--tasks-dir", tasks]
        run_kit(args, [*call, "--embeddings-dir", args.work / "embeddings"])
    return done


def predict(args: argparse.Namespace, embedded: Path, run: int) -> dict:
    """The kit's test scores; run 0 has its fixed seed."""
    folder = args.work / f"kit-{args.grid_points}-points-run-{run}" / embedded.name
    scores = folder / "test.predicted-scores.json"
    if not scores.exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(embedded, folder)
        options = ["--grid-points", str(args.grid_points), "--deterministic", str(run == 0)]
        run_kit(args, ["heareval.predictions.runner", folder, *options])
    return json.loads(scores.read_text())


def run_kit(args: argparse.Namespace, call: list) -> None:
    """Start a module of the kit on one thread; its errors show."""
    extra = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment = {**os.environ, **extra, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    command = [args.kits.resolve() / "bin" / "python", "-c", LAUNCHER, *call]
    done = subprocess.run(command, env=environment, cwd=args.work, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{call} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")


def probe(args: argparse.Namespace, task: Task, embedded: Path, seed: int) -> dict[str, float]:
    """Our test scores on the kit's embeddings."""
    path = args.work / f"ours-{args.grid_points}-points-seed-{seed}" / f"{embedded.name}.json"
    if not path.exists():
        splits = data_of_splits(task, [stored(task, embedded)])
        result = probe_mlp(make_scorer(task), splits, seed=seed, search=Search(grid_points=args.grid_points))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.scores))
    return json.loads(path.read_text())


def stored(task: Task, embedded: Path) -> Embeddings:
    """Embeddings that the kit wrote."""
    found = Embeddings()
    for clip in task.all_clips():
        base = embedded / clip.split / clip.name
        found.vectors[clip.split, clip.name] = np.load(f"{base}.embedding.npy")
        if task.is_event:
            times = json.loads(Path(f"{base}.timestamps.json").read_text())
            found.timestamps[clip.split, clip.name] = np.array(times)
    return found


def kit_score(scores: dict, name: str) -> float:
    """A test score of the kit, the mean over folds if there are several."""
    if "aggregated_scores" in scores:
        return scores["aggregated_scores"][f"test_{name}_mean"]
    return scores["test"][f"test_{name}"]


if __name__ == "__main__":
    main()
