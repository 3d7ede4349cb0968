"""What a corpus costs, from a measured rate: machine hours, days, money, storage, and numbers of things.

    python benchmarks/corpus_cost.py --rate 100 [--hours 1e6] [--price 0.2] [--machines 1 10 100] ...

Nothing is measured here. ``--rate`` is seconds of audio per second of one machine, for instance workers times the rate
of a worker in ``benchmarks/ray_scaling.py``.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

FLOAT_BYTES = 4
INDEX_BYTES = 180  # a source in index.jsonl: name, path, size, time, length
DRIVER_BYTES = 1500  # of memory that a source takes in the driver: its name and path, twice, and its record
RUN_FILES = 1_000_000  # that one run of the driver should have
PART_FILES = 512  # in a part of the output; of audio, half an hour, or ten minutes of timestamps
PART_SECONDS, PART_SECONDS_TIMESTAMPS = 1800, 600  # (hear_byols.extraction.extract.TABLE_GROUPS)


@dataclass(frozen=True)
class Corpus:
    """What is to be embedded, and on what.

    Args:
        hours: of audio.
        clip_seconds: length of a file.
        rate: seconds of audio per second of one machine.
        price: of a machine and hour.
        size: of an embedding.
        hop_ms: of timestamps; 0 for one embedding a file.
        audio_kbps: of the stored audio.
    """

    hours: float
    clip_seconds: float
    rate: float
    price: float
    size: int
    hop_ms: float
    audio_kbps: float

    @property
    def machine_hours(self) -> float:
        """Hours that one machine would take."""
        return self.hours / self.rate

    @property
    def n_files(self) -> float:
        """Number of audio files."""
        return self.hours * 3600 / self.clip_seconds

    @property
    def n_vectors(self) -> float:
        """Embeddings in the output."""
        per_file = math.floor(self.clip_seconds * 1000 / self.hop_ms) + 1 if self.hop_ms else 1
        return self.n_files * per_file

    @property
    def n_parts(self) -> float:
        """Parquet files in the output."""
        seconds = PART_SECONDS_TIMESTAMPS if self.hop_ms else PART_SECONDS
        return max(self.n_files / PART_FILES, self.hours * 3600 / seconds)


def rows(corpus: Corpus, machines: list[int]) -> list[tuple[str, str]]:
    """The table: what, and how much."""
    driver, runs = corpus.n_files * DRIVER_BYTES / 1e9, math.ceil(corpus.n_files / RUN_FILES)
    table = [
        ("audio", f"{corpus.hours:,.0f} h, {corpus.n_files:,.0f} files of {corpus.clip_seconds:g} s"),
        (
            "audio to read",
            f"{corpus.hours * 3600 * corpus.audio_kbps * 125 / 1e12:,.1f} TB at {corpus.audio_kbps:g} kbit/s",
        ),
        ("machine hours", f"{corpus.machine_hours:,.0f} at {corpus.rate:g} x real time"),
        ("cost", f"{corpus.machine_hours * corpus.price:,.0f} at {corpus.price:g} a machine hour"),
        ("cost of 1000 h of audio", f"{1000 / corpus.rate * corpus.price:.2f}"),
        ("vectors", f"{corpus.n_vectors:,.0f} of {corpus.size}"),
        ("output", f"{corpus.n_vectors * corpus.size * FLOAT_BYTES / 1e12:,.1f} TB (float32, not compressed)"),
        ("parts", f"{corpus.n_parts:,.0f} Parquet files"),
        ("in one run", f"{corpus.n_files * INDEX_BYTES / 1e9:,.1f} GB of index, {driver:,.0f} GB in the driver"),
        (f"in runs of {RUN_FILES:,} files", f"{runs:,} runs, {RUN_FILES * DRIVER_BYTES / 1e9:.1f} GB in the driver"),
    ]
    for n in machines:
        days = corpus.machine_hours / n / 24
        reading = corpus.rate * n * corpus.audio_kbps / 8 / 1000
        records = corpus.n_parts / (corpus.machine_hours / n * 3600)
        table.append((f"on {n}", f"{days:,.1f} days, reading {reading:,.1f} MB/s, {records:.2f} records/s"))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="seconds of audio per second of one machine")
    parser.add_argument("--hours", type=float, default=1e6)
    parser.add_argument("--clip-seconds", type=float, default=10)
    parser.add_argument("--price", type=float, default=0.1, help="of a machine and hour, in your currency")
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--hop-ms", type=float, default=0, help="of timestamps; 0: one embedding a file")
    parser.add_argument("--audio-kbps", type=float, default=64)
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 10, 100])
    args = vars(parser.parse_args())
    machines = args.pop("machines")
    print("| | |\n|---|---|")
    for name, value in rows(Corpus(**args), machines):
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
