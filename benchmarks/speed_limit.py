"""The limit that speed is compared with: operations of the encoder over the machine's rate of matrix products."""

from __future__ import annotations

import time
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from hear_byols.encoders import build_encoder
from hear_byols.framing import Framing

HOP, SAMPLE_RATE = 160, 16000  # of spectrogram frames
_SIZES = {"cpu": (1024, 2048), "cuda": (8192,)}
_LSTM_FRAMES = 321  # an LSTM is counted step by step, so long clips go by the slope between two short ones


@cache
def operations(encoder: str, n_frames: int) -> int:
    """Floating-point operations of one encoder call on one spectrogram: matrix products, convolutions, attention.

    Counted on shapes alone, without computing. Attention is counted whole, as if its scores were written out; the
    front end and everything element by element are left out, so the limit is a little kinder than the truth.
    """
    if encoder == "clstm" and n_frames > _LSTM_FRAMES:
        slope = (operations(encoder, _LSTM_FRAMES) - operations(encoder, 161)) / 160
        return round(operations(encoder, _LSTM_FRAMES) + slope * (n_frames - _LSTM_FRAMES))
    with torch.device("meta"):
        module = build_encoder(encoder).eval()
        spectrogram = torch.empty(1, 1, 64, n_frames)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(spectrogram)
    return counter.get_total_flops()


def operations_of_call(encoder: str, call: str, clips: int, seconds: int, framing: Framing) -> int:
    """Operations of one call of ``scene_embeddings`` or ``timestamp_embeddings``."""
    n_samples = seconds * SAMPLE_RATE
    if call == "scene":
        return clips * operations(encoder, 1 + n_samples // HOP)
    return clips * framing.n_windows(n_samples) * operations(encoder, 1 + framing.frame_samples // HOP)


def matrix_rate(device: str, precision: str, repeats: int = 5) -> float:
    """Best measured rate of square matrix products, in floating-point operations per second."""
    kind = torch.device(device).type
    best = 0.0
    for size in _SIZES[kind]:
        a, b = (torch.rand(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))
        for _ in range(repeats):
            _wait(kind)
            start = time.perf_counter()
            torch.mm(a, b)
            _wait(kind)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def _wait(kind: str) -> None:
    if kind == "cuda":
        torch.cuda.synchronize()
