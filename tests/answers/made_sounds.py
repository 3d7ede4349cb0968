"""Small labelled recordings, made on the spot, and what tests read back."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from hear_byols.cli.main import main

RATE = 16000
MODEL = "random_cnn"  # needs no file, and is quick
CLASSES = ("clicks", "hum", "sweep")


def make(label: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """A sound of a class, each of its own pitch and loudness, float64 [shape=(n_samples,)]."""
    time = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(150, 400)
    if label == "hum":
        sound = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    elif label == "sweep":
        sound = np.sin(2 * np.pi * np.cumsum(3 * pitch * 2 ** (2 * time / seconds)) / RATE)
    else:
        sound = rng.uniform(-1, 1, time.size) * np.exp(-60 * ((time * rng.uniform(5, 12)) % 1))
    return rng.uniform(0.1, 0.5) * sound / np.abs(sound).max() + 0.01 * rng.uniform(-1, 1, time.size)


def write_classes(folder: Path, n: int, seconds: float = 0.6, seed: int = 0) -> Path:
    """Write ``n`` clips of each class into a folder of its own."""
    rng = np.random.default_rng(seed)
    for label in CLASSES:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            soundfile.write(folder / label / f"{label}{i}.wav", make(label, seconds, rng), RATE)
    return folder


def paths_and_labels(folder: Path) -> tuple[list[Path], list[str]]:
    """All clips below a folder and their classes."""
    paths = sorted(folder.rglob("*.wav"))
    return paths, [path.parent.name for path in paths]


def command(*arguments: object) -> int:
    """Run a command line; the exit status."""
    return main([*map(str, arguments)])


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table that was written."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def formulas_in(path: Path) -> list[str]:
    """Cells of a table that a spreadsheet would take for a formula."""
    with open(path, newline="", encoding="utf-8") as file:
        return [cell for row in csv.reader(file) for cell in row if cell.startswith(("=", "+", "-", "@", "\t"))]
