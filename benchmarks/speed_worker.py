"""One configuration in a process of its own: embeds noise each time a line arrives, and tells how long it took.

Started by ``speed.py``, never by hand. Two of these, the package and the reference, take turns on the same machine.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import reference
import torch

import hear_byols
from hear_byols._util.memory import peak_memory


def main(settings: dict[str, Any]) -> None:
    """Answer ``run`` with seconds, and ``end`` with the peak memory in bytes; each as one line of JSON."""
    torch.set_num_threads(settings["threads"])
    device = torch.device(settings["device"])
    model = hear_byols.load_model(
        f"random_{settings['encoder']}", normalization="clip", precision=settings["precision"]
    ).to(device)
    if settings["compile"] and settings["side"] == "ours":
        model.encoder.compile()
    audio = torch.rand(settings["clips"], settings["seconds"] * model.sample_rate).sub_(0.5).to(device)
    call = f"{settings['call']}_embeddings"
    ours, original = getattr(model, call), getattr(reference, call)
    _answer("ready")
    for line in sys.stdin:
        if line.strip() == "end":
            break
        start = time.perf_counter()
        vectors = ours(audio) if settings["side"] == "ours" else original(audio, model)
        _wait(device)
        elapsed = time.perf_counter() - start
        del vectors
        _answer(elapsed)
    _answer(_peak(device))


def _answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> int:
    """Of the device where it has memory of its own, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
