"""Speed of what is deployed: ONNX files beside torch, latency of streaming, folders of files, workers of Ray.

    python benchmarks/deploy.py onnx [--models random_cvt random_cnn] [--int8]
    python benchmarks/deploy.py streaming [--models cvt_hybrid] [--chunk-ms 50 1000] [--seconds 30]
    python benchmarks/deploy.py folder [--models cnn_hybrid yamnet] [--files 1000]
    python benchmarks/deploy.py ray [--workers 1 2] [--files 200] [--seconds 20]

Each prints CSV for ``benchmarks/results/``. ONNX: processor time on one thread, medians of turns. Streaming: noise in
chunks as fast as it can; "kept up" below 1 means that the stream falls behind. Folder: scenes of files of 1 to 10 s by
`embed` on one thread, in processor time, beside the sum of its parts, each done file by file. Ray: a corpus of noise;
rates are those of the second half, when all workers have long loaded their model.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from speed import print_csv, timed

import hear_byols
from hear_byols.config import ModelConfig, NormalizationConfig
from hear_byols.model import EmbeddingModel

ONNX_CASES = {"scene": ((1, 1), (1, 10), (16, 5)), "timestamps": ((1, 10),)}  # clips and their seconds
RATE = 16000


def onnx(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a model and case: largest difference, and seconds of audio a second of each side."""
    from hear_byols.onnx.export import export_onnx, open_session

    rows = []
    for name in args.models or ("random_cvt", "random_cnn", "random_resnetish34", "random_clstm"):
        model = hear_byols.load_model(name)
        for kind, cases in ONNX_CASES.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                export = export_onnx(model, path, timestamps=kind == "timestamps", int8=args.int8)
                size = f"{path.stat().st_size / 1e6:.1f}"
                session = open_session(export.path, threads=1)
            for n_clips, seconds in cases:
                row = {"model": name + ", int8" * args.int8, "output": kind, "clips": n_clips, "seconds": seconds}
                rows.append({**row, "MB": size} | onnx_case(model, session, kind, n_clips, seconds))
    return rows


def onnx_case(model: EmbeddingModel, session: Any, kind: str, n_clips: int, seconds: int) -> dict[str, str]:
    """Both sides in turns."""
    audio = 0.1 * torch.randn(n_clips, seconds * model.sample_rate)

    def with_torch() -> np.ndarray:
        return (model.scene_embeddings(audio) if kind == "scene" else model.timestamp_embeddings(audio)[0]).numpy()

    def with_onnxruntime() -> np.ndarray:
        return session.run(None, {"waveform": audio.numpy()})[0]

    wanted, got = with_torch(), with_onnxruntime()  # and warm both up
    times = [(timed(with_torch), timed(with_onnxruntime)) for _ in range(5)]
    ours, theirs = (n_clips * seconds / statistics.median(column) for column in zip(*times, strict=True))
    return {
        "deviation": f"{np.abs(got - wanted).max() / np.abs(wanted).max():.1e}",
        "torch (x real time)": f"{ours:.0f}",
        "onnxruntime": f"{theirs:.0f}",
        "ratio": f"{theirs / ours:.2f}",
    }


def write_noise(corpus: Path, lengths: Iterable[int]) -> None:
    """Files of noise, of so many samples."""
    corpus.mkdir()
    rng = np.random.default_rng(0)
    for i, n_samples in enumerate(lengths):
        soundfile.write(corpus / f"{i:05}.wav", 0.1 * rng.standard_normal(n_samples), RATE)


def streaming(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a model and length of the chunks."""
    rows = []
    for name in args.models or ("cvt_hybrid", "random_cnn"):
        loaded = hear_byols.load_model(name)
        norm = loaded.config.normalization  # untrained models have no statistics; any will do for the speed
        fixed = NormalizationConfig("dataset", *((-5.0, 5.0) if norm.mean is None else norm.of_dataset))
        model = EmbeddingModel(ModelConfig(loaded.config.encoder, loaded.config.frontend, fixed))
        rows += [{"model": name} | streaming_case(model, chunk_ms, args.seconds) for chunk_ms in args.chunk_ms]
    return rows


def streaming_case(model: EmbeddingModel, chunk_ms: float, seconds: float) -> dict[str, Any]:
    """How long a chunk takes, and how long after its centre a window's embedding is there."""
    from hear_byols.streaming import StreamingEmbedder

    embedder = StreamingEmbedder(model)
    chunk = 0.1 * torch.randn(round(chunk_ms * model.sample_rate / 1000))
    embedder.feed(torch.zeros(2 * model.sample_rate))  # the first windows also warm up
    start, works, processor = embedder.n_samples, [], []
    while embedder.n_samples - start < seconds * model.sample_rate:
        before = time.perf_counter()
        processor.append(1000 * timed(lambda: embedder.feed(chunk)))
        works.append(1000 * (time.perf_counter() - before))
    median, late = np.percentile(works, [50, 95])
    # The oldest window of a chunk was completed by the chunk's first samples, and waited for its last.
    latency = 1000 * model.framing.padding[1] / model.sample_rate + min(chunk_ms, seconds * 1000) + late
    return {
        "chunk (ms)": f"{chunk_ms:g}",
        "processor time (ms)": f"{np.median(processor):.1f}",
        "wall time (ms)": f"{median:.1f}",
        "95 %": f"{late:.1f}",
        "latency (ms), 95 %": f"{latency:.0f}",
        "kept up (x)": f"{1000 * (embedder.n_samples - start) / model.sample_rate / sum(works):.1f}",
    }


def folder(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a model: files a second, and the time beside that of loading, decoding, embedding and writing apart.

    On all cores too, where several clips are embedded at once, and beside that the model's own use of the cores.
    """
    from hear_byols.extraction.extract import embed_to_folder

    rows: list[dict[str, Any]] = []
    lengths = np.random.default_rng(0).integers(RATE, 10 * RATE, args.files)
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "audio")
        write_noise(corpus, lengths)
        for name in args.models or ("cnn_hybrid", "yamnet"):
            hear_byols.load_model(name).scene_embeddings(torch.zeros(1, RATE))  # warms up
            parts = folder_parts(name, sorted(corpus.iterdir()), Path(place))
            call = partial(embed_to_folder, [corpus], Path(place, f"out {name}"), model=name, device="cpu")
            seconds = timed(call)
            row = {"model": name, "files": args.files, "audio (s)": f"{lengths.sum() / RATE:.0f}"}
            row["files a second"] = f"{args.files / seconds:.1f}"
            row |= {part: f"{taken / seconds:.2f}" for part, taken in parts.items()}
            row["sum"] = f"{sum(parts.values()) / seconds:.2f}"
            torch.set_num_threads(os.cpu_count() or 1)
            alone = timed(partial(embed_one_by_one, name, sorted(corpus.iterdir())), time.perf_counter)
            call = partial(embed_to_folder, [corpus], Path(place, f"all {name}"), model=name, device="cpu")
            together = timed(call, time.perf_counter)
            torch.set_num_threads(1)
            row["files a second, all cores"] = f"{args.files / together:.1f}"
            rows.append(row | {"a clip at a time, all cores": f"{args.files / alone:.1f}"})
    return rows


def embed_one_by_one(name: str, files: list[Path]) -> None:
    """What a user's loop does."""
    model = hear_byols.load_model(name)
    for file in files:
        model.scene_embeddings(torch.from_numpy(hear_byols.load_audio(file, model.sample_rate))[None])


def folder_parts(name: str, files: list[Path], place: Path) -> dict[str, float]:
    """Processor time of each part of the work."""
    model, clips, vectors = hear_byols.load_model(name), [], []

    def write() -> None:
        for i, vector in enumerate(vectors):
            np.savez(place / f"{i}.npz", embedding=vector)

    def embed() -> None:
        vectors.extend(model.scene_embeddings(torch.from_numpy(clip)[None])[0].numpy() for clip in clips)

    return {
        "loading": timed(lambda: hear_byols.load_model(name)),
        "decoding": timed(lambda: clips.extend(hear_byols.load_audio(file, model.sample_rate) for file in files)),
        "embedding": timed(embed),
        "writing": timed(write),
    }


def ray(args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, [model, *_] = Path(folder, "audio"), args.models or ["cvt_hybrid"]
        write_noise(corpus, [round(args.seconds * RATE)] * args.files)
        rates = {n: ray_rate(corpus, Path(folder, f"out{n}"), model, n) for n in args.workers}
    audio, first = f"{args.files * args.seconds:g}", rates[args.workers[0]]
    return [
        {"workers": n, "audio (s)": audio, "wall (x real time)": f"{rate:.0f}", "gain": f"{rate / first:.2f}"}
        for n, rate in rates.items()
    ]


def ray_rate(corpus: Path, output: Path, model: str, workers: int) -> float:
    """Seconds of audio a second."""
    from hear_byols.extraction.ray import embed_with_ray

    embed_with_ray([corpus], output, model=model, device="cpu", workers=workers)
    parts = []  # when each was written, and the samples in it
    for entry in (entry for line in (output / "index.jsonl").open() for entry in json.loads(line)):
        written = max((output / name).stat().st_mtime for name in entry["outputs"])
        parts.append((written, sum(source["n_samples"] for source in entry["sources"])))
    times, samples = np.array(sorted(parts)).T
    done = samples.cumsum() / RATE
    half = np.searchsorted(done, done[-1] / 2)
    return (done[-1] - done[half]) / (times[-1] - times[half])


def main() -> None:
    """Measure one of the four and print CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("onnx", "streaming", "folder", "ray"))
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--chunk-ms", nargs="+", type=float, default=[50, 1000])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--int8", action="store_true", help="ONNX files of this precision")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print_csv({"onnx": onnx, "streaming": streaming, "folder": folder, "ray": ray}[args.what](args))


if __name__ == "__main__":
    main()
