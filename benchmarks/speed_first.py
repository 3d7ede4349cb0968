"""From starting Python to the first vector of a 5 s file, and how much of it is the import of torch.

    python benchmarks/speed_first.py [--turns 7]

Each turn is a fresh process with the shipped model; the best of the turns counts.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

PROGRAMS = {
    "import torch": "import torch",
    "import hear_byols, embed a file of 5 s": "import sys, hear_byols; hear_byols.embed_files(sys.argv[1])",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    best = dict.fromkeys(PROGRAMS, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.wav"
        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 80000).astype(np.float32), 16000)
        for _ in range(turns):
            for name, program in PROGRAMS.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, "-c", program, str(path)], check=True)
                best[name] = min(best[name], time.perf_counter() - start)
    print("| program | best wall time (s) |\n|---|---|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
