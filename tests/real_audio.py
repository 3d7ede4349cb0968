"""Real clips for tests, where the checkout has the tasks beside it; made ones elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

TASKS = Path(__file__).resolve().parents[2] / "shared/data/tasks"
RATE = 16000


def labelled_clips(n: int, seconds: float, task: str = "esc10-v1-full") -> list[tuple[str, np.ndarray]]:
    """Labels and beginnings of ``n`` clips, as many of each class as can be [each shape=(n_samples,)]."""
    by_label: dict[str, list[Path]] = {}
    for table in sorted((TASKS / task).glob("fold*.json")):
        for name, labels in json.loads(table.read_text()).items():
            by_label.setdefault(labels[0], []).append(TASKS / task / "16000" / table.stem / name)
    if not by_label:
        return [(f"class {i % 10}", _made(i % 10, i // 10, seconds)) for i in range(n)]
    order = sorted(by_label)
    chosen = [(order[i % len(order)], by_label[order[i % len(order)]][i // len(order)]) for i in range(n)]
    return [(label, soundfile.read(path, frames=round(seconds * RATE), dtype="float32")[0]) for label, path in chosen]


def _made(kind: int, number: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(1000 * kind + number)
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * 150 * 1.35**kind * rng.uniform(0.95, 1.05) * time)
    return (0.2 * tone + 0.01 * rng.normal(size=time.size)).astype(np.float32)
