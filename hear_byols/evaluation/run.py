"""Models times tasks times probes times seeds, each result kept as soon as it is there."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hear_byols._util.device import find_device
from hear_byols._util.files import output_path
from hear_byols.errors import HearByolsError, OptionError, OutputError
from hear_byols.evaluation.embeddings import Embeddings, read_embeddings
from hear_byols.evaluation.models import Model, digest_of
from hear_byols.evaluation.probe import ProbeResult, Search, probe_linear, probe_mlp
from hear_byols.evaluation.probe_data import ProbeData, data_of_splits
from hear_byols.evaluation.scorer import Scorer, make_scorer
from hear_byols.evaluation.scores import is_part
from hear_byols.evaluation.tasks import Task, read_task
from hear_byols.evaluation.worker import embed_apart, known_folder

PROBES = ("linear", "mlp")
STANDARDIZE = ("auto", "always", "never")
_SCHEMA = 2  # of a record; another number makes all results anew


@dataclass(frozen=True)
class Plan:
    """How to evaluate."""

    probes: tuple[str, ...] = ("linear",)  # "linear" (fast) and "mlp" (hear-eval-kit's)
    seeds: int = 1  # how many, of the mlp probe
    search: Search = field(default_factory=Search)  # size of its search
    standardize: str = "auto"  # its embeddings by the training rows: "always", "never", or Model.wants_standardizing
    device: str = "auto"  # or a torch device

    def __post_init__(self) -> None:
        if not self.probes or not set(self.probes) <= set(PROBES):
            raise OptionError(f"probes must be of {', '.join(PROBES)}, got {', '.join(self.probes) or 'none'}")
        if self.seeds < 1:
            raise OptionError(f"seeds must be at least 1, got {self.seeds}")
        if self.standardize not in STANDARDIZE:
            raise OptionError(f"standardize must be one of {', '.join(STANDARDIZE)}, got {self.standardize!r}")


@dataclass(frozen=True)
class MissingResult:
    """A model and task without a result."""

    model: str  # label; empty if the task itself is at fault
    task: str  # folder's name
    reason: str


@dataclass
class Outcome:
    """What a run gave."""

    records: list[dict[str, Any]] = field(default_factory=list)  # results, new and kept ones
    failures: list[MissingResult] = field(default_factory=list)


def evaluate(
    models: Sequence[Model],
    tasks: Sequence[Path],
    output: Path,
    plan: Plan,
    *,
    cache: Path | None = None,
    progress: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Evaluate every model on every task.

    Embeddings are computed in a process a model and task, and kept in the cache, by default ``output/embeddings``;
    every score is written to ``output/results`` at once. What is there is not computed again. A model or task that
    fails is reported and the others go on. ``log`` is called with one line a result.

    Raises:
        OutputError: results cannot be written.
    """
    cache = cache or output / "embeddings"
    outcome = Outcome()
    for folder in tasks:
        try:
            scorer = make_scorer(read_task(folder))
        except HearByolsError as error:
            outcome.failures.append(MissingResult("", folder.name, str(error)))
            log(f"{folder.name}: {error}")
            continue
        for model in models:
            try:
                for record in _evaluate_one(model, scorer, output, plan, cache, progress):
                    outcome.records.append(record)
                    log(_line(record))
            except OutputError:
                raise
            except HearByolsError as error:
                outcome.failures.append(MissingResult(model.label, folder.name, str(error)))
                log(f"{folder.name}, {model.label}: failed: {error}")
    return outcome


def _evaluate_one(
    model: Model, scorer: Scorer, output: Path, plan: Plan, cache: Path, progress: bool
) -> Iterator[dict[str, Any]]:
    task = scorer.task
    folders = [
        known_folder(part, task, cache) or embed_apart(part, task, cache, device=plan.device, progress=progress)
        for part in model.parts
    ]
    clips = [(clip.split, clip.name, clip.labels, [asdict(e) for e in clip.events]) for clip in task.all_clips()]
    labels = digest_of([clips, task.vocabulary, task.metadata])
    embeddings: list[Embeddings] = []
    splits: dict[str, ProbeData] = {}
    # The linear probe has no randomness.
    jobs = [(probe, seed) for probe in plan.probes for seed in range(plan.seeds if probe == "mlp" else 1)]
    for probe, seed in jobs:
        asked = {"auto": model.wants_standardizing, "always": True, "never": False}[plan.standardize]
        standardize = probe == "linear" or asked
        key = {
            "schema": _SCHEMA,
            "embeddings": ["/".join(folder.parts[-2:]) for folder in folders],
            "task": labels,
            "probe": probe,
            "seed": seed,
            "search": asdict(plan.search) if probe == "mlp" else None,
            "standardize": standardize,
        }
        path = output / "results" / f"{digest_of(key)}.json"
        record = _read_record(path)
        if record is None:
            if not splits:
                embeddings = [read_embeddings(folder) for folder in folders]
                splits = data_of_splits(task, embeddings)
            start = time.perf_counter()
            if probe == "linear":
                result = probe_linear(scorer, splits)
            else:
                options: dict[str, Any] = {"standardize": standardize, "device": find_device(plan.device)}
                result = probe_mlp(scorer, splits, seed=seed, search=plan.search, **options)
            record = _record(key, task, result, embeddings, time.perf_counter() - start)
            with output_path(path) as part:
                part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        yield {**record, "model": model.label}


def _record(
    key: dict[str, Any], task: Task, result: ProbeResult, embeddings: Sequence[Embeddings], seconds: float
) -> dict[str, Any]:
    cost = sum((each.cost for each in embeddings[1:]), embeddings[0].cost)
    return {
        "key": key,
        "task": {
            "name": task.name,
            "folder": task.folder.name,
            "type": task.embedding_type,
            "criterion": task.evaluation[0],
            "n_clips": len(task.all_clips()),
        },
        "probe": key["probe"],
        "seed": key["seed"],
        **asdict(result),
        "size": sum(next(iter(each.vectors.values())).shape[-1] for each in embeddings),
        "cost": asdict(cost),
        "probe_seconds": seconds,
    }


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}); delete it and run again") from error


def _line(record: dict[str, Any]) -> str:
    found = record["scores"]
    scores = ", ".join(f"{name} {value:.4f}" for name, value in found.items() if not is_part(name, found))
    return f"{record['task']['folder']}, {record['model']}, {record['probe']} probe, seed {record['seed']}: {scores}"
