"""Latency and cost of streaming: how long after its centre a window's embedding is there.

    python benchmarks/streaming.py [--models cvt_hybrid] [--chunk-ms 50 1000] [--seconds 30] [--threads 1]

Feeds noise in chunks as fast as it can and prints a row a case. A window is complete half a window after its centre;
its embedding is there after the computation of the chunk that completed it. Times are medians over the chunks; on a
machine with other work, wall time is more than processor time. "Kept up" is seconds of signal over seconds of wall
time; under 1 the stream falls behind.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

import hear_byols
from hear_byols.config import ModelConfig, NormalizationConfig
from hear_byols.model import EmbeddingModel
from hear_byols.streaming import StreamingEmbedder


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["cvt_hybrid", "random_cnn"])
    parser.add_argument("--chunk-ms", nargs="+", type=float, default=[50, 1000])
    parser.add_argument("--hop-ms", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| model | chunk (ms) | processor time (ms) | wall time (ms) | 95 % | latency (ms), 95 % | kept up (x) |")
    print("|---|---|---|---|---|---|---|")
    for name in args.models:
        model = _with_statistics(hear_byols.load_model(name, hop_ms=args.hop_ms))
        for chunk_ms in args.chunk_ms:
            _case(name, model, chunk_ms, args.seconds)


def _with_statistics(model: EmbeddingModel) -> EmbeddingModel:
    """The model with fixed statistics: its own, or for untrained ones any; neither changes the speed."""
    norm = model.config.normalization
    fixed = NormalizationConfig("dataset", *((-5.0, 5.0) if norm.mean is None else (norm.mean, norm.std)))
    config = ModelConfig(model.config.encoder, model.config.frontend, fixed)
    return EmbeddingModel(config, frame_ms=model.framing.frame_ms, hop_ms=model.framing.hop_ms)


def _case(name: str, model: EmbeddingModel, chunk_ms: float, seconds: float) -> None:
    embedder = StreamingEmbedder(model)
    chunk = 0.1 * torch.randn(round(chunk_ms * model.sample_rate / 1000))
    embedder.feed(torch.zeros(2 * model.sample_rate))  # the first windows also warm up
    start, works, processor = embedder.n_samples, [], []
    while embedder.n_samples - start < seconds * model.sample_rate:
        before, before_processor = time.perf_counter(), time.process_time()
        embedder.feed(chunk)
        works.append(1000 * (time.perf_counter() - before))
        processor.append(1000 * (time.process_time() - before_processor))
    heard = (embedder.n_samples - start) / model.sample_rate
    median, late = np.percentile(works, [50, 95])
    # The oldest window of a chunk was completed by the chunk's first samples, and waited for its last.
    latency = 1000 * model.framing.padding[1] / model.sample_rate + min(chunk_ms, seconds * 1000) + late
    times = f"{np.median(processor):.1f} | {median:.1f} | {late:.1f}"
    row = f"{times} | {latency:.0f} | {1000 * heard / sum(works):.1f}"
    print(f"| {name} | {chunk_ms:g} | {row} |", flush=True)


if __name__ == "__main__":
    main()
