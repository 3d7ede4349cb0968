"""The same embeddings through the real hear-eval-kit and through hear_byols.evaluation.

    python benchmarks/agreement.py --kits ENVIRONMENT --tasks TASK... --work FOLDER

ENVIRONMENT is a virtual environment with heareval and this package's requirements (docs/hear-kits.md). The kit embeds
every task and trains its classifiers, once with its fixed seed and then with random ones; ours reads the embeddings
that the kit stored. Prints a Markdown table of test scores. What is there already is not run again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hear_byols.evaluation.probe import Search, probe_mlp  # noqa: E402
from hear_byols.evaluation.probe_data import data_of_splits  # noqa: E402
from hear_byols.evaluation.scorer import make_scorer  # noqa: E402
from hear_byols.evaluation.store import Embeddings  # noqa: E402
from hear_byols.evaluation.tasks import Task, read_task  # noqa: E402

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
    parser.add_argument("--module", default="hear_byols.evaluation.adapters.logmel")
    parser.add_argument("--runs", type=int, default=3, help="seeds of each side")
    parser.add_argument("--grid-points", type=int, default=2)
    args = parser.parse_args()
    print("| task | score | hear-eval-kit, by seed | ours, by seed | means | difference |\n|---|---|---|---|---|---|")
    for folder in args.tasks:
        task = read_task(folder)
        embedded = embed(args, folder.resolve())
        theirs = [predict(args, embedded, run) for run in range(args.runs)]
        ours = [probe(args, task, embedded, seed) for seed in range(args.runs)]
        for name in task.evaluation:
            print(
                line(task, name, [kit_score(each, name) for each in theirs], [each[name] for each in ours]), flush=True
            )


def embed(args: argparse.Namespace, task: Path) -> Path:
    """The kit's embeddings of a task."""
    done = args.work / "embeddings" / args.module / task.name
    if not (done / "test.embeddings.npy").exists() and not (done / "fold00.embeddings.npy").exists():
        tasks = args.work / "tasks" / task.name
        tasks.mkdir(parents=True, exist_ok=True)
        (tasks / task.name).unlink(missing_ok=True)
        (tasks / task.name).symlink_to(task, target_is_directory=True)
        call = ["heareval.embeddings.runner", args.module, "--tasks-dir", tasks]
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
        start = time.time()
        run_kit(args, ["heareval.predictions.runner", folder, *options])
        print(f"kit, {embedded.name}, run {run}: {time.time() - start:.0f} s", file=sys.stderr)
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
        start = time.time()
        splits = data_of_splits(task, [stored(task, embedded)])
        result = probe_mlp(make_scorer(task), splits, seed=seed, search=Search(grid_points=args.grid_points))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.scores))
        print(f"ours, {embedded.name}, seed {seed}: {time.time() - start:.0f} s", file=sys.stderr)
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


def line(task: Task, name: str, theirs: list[float], ours: list[float]) -> str:
    """A row of the table, in percent."""
    shown = [" ".join(f"{100 * value:.2f}" for value in values) for values in (theirs, ours)]
    means = [100 * float(np.mean(values)) for values in (theirs, ours)]
    cells = [task.name, name, *shown, f"{means[0]:.2f} / {means[1]:.2f}", f"{means[1] - means[0]:+.2f}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
