"""Peak memory of long audio in one process each: 20 minutes of timestamps, 10 minutes as one scene.

    python benchmarks/memory.py [--model random_cvt]

Prints a row a case: seconds of audio, peak memory of the process, the part that input and result need anyway, and the
speed in seconds of audio per second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

CASES = (("get_scene_embeddings", 60), ("get_scene_embeddings", 600), ("get_timestamp_embeddings", 60))
LONG_CASES = (("get_timestamp_embeddings", 1200),)

PROGRAM = """
import json, sys, time
import torch, hear_byols
from hear_byols._util.memory import peak_memory
call, seconds, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
model = hear_byols.load_model(name)
audio = torch.rand(1, seconds * 16000).sub_(0.5)
start = time.perf_counter()
out = getattr(hear_byols, call)(audio, model)
elapsed = time.perf_counter() - start
vectors = out[0] if isinstance(out, tuple) else out
print(json.dumps({"peak": peak_memory(),
                  "own": vectors.nbytes + audio.nbytes, "speed": seconds / elapsed}))
"""


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random_cvt")
    parser.add_argument("--short", action="store_true", help="leave out the 20 minutes of timestamps")
    args = parser.parse_args()
    print("| call | audio (s) | peak (GB) | input and result (GB) | speed (x real time) |\n|---|---|---|---|---|")
    for call, seconds in CASES if args.short else CASES + LONG_CASES:
        command = [sys.executable, "-c", PROGRAM, call, str(seconds), args.model]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        row = f"{result['peak'] / 1e9:.2f} | {result['own'] / 1e9:.2f} | {result['speed']:.1f}"
        print(f"| {call} | {seconds} | {row} |", flush=True)


if __name__ == "__main__":
    main()
