"""The kinds of ``fuzz.py`` that reach models: checkpoint files in both formats, and what is given to a model."""

import os
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hear_byols import EmbeddingModel, get_scene_embeddings, get_timestamp_embeddings, load_model, save_checkpoint
from hear_byols.config import EncoderConfig, FrontendConfig, ModelConfig, NormalizationConfig
from hear_byols.encoders import build_encoder
from hear_byols.streaming import StreamingEmbedder
from hear_byols.weights.checkpoint import read_checkpoint

Attack = Callable[[], str]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Change bits, bytes, runs, lengths or the end, anywhere or, as often, where headers and directories are."""
    content = bytearray(data)
    edge = min(len(content), 3000)
    place = chance.choice(
        [chance.randrange(len(content)), chance.randrange(edge), len(content) - 1 - chance.randrange(edge)]
    )
    match chance.randrange(8):
        case 0:
            content[place] ^= 1 << chance.randrange(8)
        case 1:
            content[place] = chance.randrange(256)
        case 2:
            content[place : place + 8] = chance.choice(
                [b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", b"\0" * 5 + b"\1" * 3]
            )
        case 3:
            del content[place:]
        case 4:
            del content[place : place + chance.randrange(1, 2000)]
        case 5:
            content[place : place + chance.randrange(1, 2000)] = chance.randbytes(chance.randrange(1, 2000))
        case 6:
            other = chance.randrange(len(content))
            n = chance.randrange(1, 500)
            content[place : place + n], content[other : other + n] = (
                content[other : other + n],
                content[place : place + n],
            )
        case _:
            for _ in range(chance.randrange(1, 50)):
                content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


def checkpoints(suffix: str) -> Callable[[Path, random.Random], Iterator[Attack]]:
    """Damaged checkpoints: refused, or exactly what was saved."""

    def kind(folder: Path, chance: random.Random) -> Iterator[Attack]:
        config = ModelConfig(EncoderConfig("cnn", 8), FrontendConfig(), NormalizationConfig("halfway", -8.0, 4.0))
        weights = build_encoder(config.encoder).state_dict()
        provenance = {"name": "fuzz", "licence": "MIT", "data": ["none"]}
        path = folder / f"x{suffix}"
        save_checkpoint(path, config, weights, provenance)
        whole = path.read_bytes()
        while True:
            mutated = mutate(whole, chance)

            def attack(mutated: bytes = mutated) -> str:
                path.write_bytes(mutated)
                read = read_checkpoint(path)
                same = (
                    read.config == config and read.provenance == provenance and read.state_dict.keys() == weights.keys()
                )
                return (
                    "fine" if same and all(torch.equal(read.state_dict[k], v) for k, v in weights.items()) else "wrong"
                )

            yield attack

    return kind


def calls(folder: Path, chance: random.Random) -> Iterator[Attack]:
    """Audio and options of any kind; what is accepted gives finite float32 vectors of the right shape."""
    os.environ["HEAR_BYOLS_OFFLINE"] = "1"  # names of the Hub are among the options
    config = ModelConfig(EncoderConfig("cnn", 8), normalization=NormalizationConfig("dataset", -8.0, 4.0))
    model = EmbeddingModel(config, frame_ms=200, hop_ms=100)
    while True:
        if chance.random() < 0.25:
            options = {name: chance.choice(_OPTIONS) for name in chance.sample(_NAMES, chance.randrange(1, 4))}
            yield lambda options=options: _load(options)
        else:
            audio, call = _audio(chance), chance.choice(["scene", "timestamp", "stream", "forward"])
            yield lambda audio=audio, call=call: _embed(model, audio, call)


_NAMES = ["frame_ms", "hop_ms", "normalization", "layers", "batch_size", "precision", "win_length", "model_file_path"]
_OPTIONS: list[Any] = [
    0,
    1,
    -1,
    7,
    50,
    400,
    1e9,
    1e-9,
    1e308,
    10**400,
    float("nan"),
    float("inf"),
    True,
    None,
    "",
    "+",
    "x",
]
_OPTIONS += [
    "random_cnn",
    "clip",
    "halfway",
    "multi",
    "last",
    "float16",
    "\0",
    "../x",
    "hf://",
    "hf://a/b/c",
    b"x",
    (),
    {},
]
_OPTIONS += [
    np.int8(3),
    np.float32(400),
    np.float64("nan"),
    np.array(3),
    np.array([3]),
    np.bool_(True),
    torch.tensor(2),
]


def _load(options: dict[str, Any]) -> str:
    loaded = load_model(**{"model_file_path": "random_cnn", **options})
    return "fine" if isinstance(loaded, torch.nn.Module) else "wrong"


def _audio(chance: random.Random) -> Any:
    """Clips of a random kind, sometimes in a list."""
    if chance.random() < 0.3:
        return [_clips(chance, chance.choice([1] * 12 + [0, 2])) for _ in range(chance.randrange(4))]
    return _clips(chance, chance.choice([2, 2, 2, 2, 2, 1, 0, 3]))


def _clips(chance: random.Random, rank: int) -> Any:
    shape = [chance.choice([1, 1, 1, 2, 2, 3, 0]) for _ in range(rank)]
    if shape:
        shape[-1] = chance.choice([0, 1, 2, 159, 1599, 1600, 3000, 5000])
    samples = np.random.default_rng(chance.randrange(1000)).standard_normal(shape)
    samples = np.asarray(samples * chance.choice([0, 1e-30, 1e-3, 0.1, 0.1, 0.5, 1, 2, 1e5, 1e300]))
    if samples.size and chance.random() < 0.1:
        samples.flat[chance.randrange(samples.size)] = chance.choice([np.nan, np.inf, -np.inf])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        samples = samples.astype(chance.choice(_TYPES))
    if rank and chance.random() < 0.3:
        samples = samples[..., ::-1]
    if chance.random() < 0.2:
        samples.flags.writeable = False
    if chance.random() < 0.4 or samples.dtype.name not in ("float16", "float32", "float64", "int16", "uint8"):
        masked = np.ma.MaskedArray(samples, mask=np.zeros(samples.shape, bool) | (chance.random() < 0.5))
        return chance.choice([*[samples] * 8, samples.tolist(), masked])
    tensor = torch.from_numpy(np.array(samples, dtype=samples.dtype.newbyteorder("=")))
    return chance.choice(_WRAPPERS)(tensor)


_TYPES = [
    "f2",
    "f4",
    "f4",
    "f4",
    "f8",
    ">f4",
    ">f8",
    np.longdouble,
    "i2",
    ">i4",
    "u1",
    "u4",
    "c8",
    "?",
    "S3",
    "O",
    "M8[s]",
]
_WRAPPERS: list[Callable[[torch.Tensor], Any]] = [lambda x: x] * 12 + [
    lambda x: x.to_sparse(),
    lambda x: x.to("meta"),
    lambda x: x.bfloat16(),
    lambda x: x.to(torch.complex64).conj().imag,
    lambda x: torch.nn.Parameter(x.float()),
    lambda x: x.expand(2, *x.shape),
    lambda x: x.t() if x.ndim == 2 else x,
    lambda x: x.to_mkldnn() if x.dtype == torch.float32 and x.ndim else x,
    lambda x: torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8),
]


def _embed(model: EmbeddingModel, audio: Any, call: str) -> str:
    if call == "stream":
        stream = StreamingEmbedder(model)
        vectors = [stream.feed(audio)[0], stream.finish()[0]]
    elif call == "timestamp":
        found = get_timestamp_embeddings(audio, model)[0]
        vectors = list(found)
    else:
        found = model(audio) if call == "forward" else get_scene_embeddings(audio, model)
        vectors = [found] if found.shape == (len(audio), 8) else []
    good = all(x.dtype == torch.float32 and x.shape[-1] == 8 and bool(torch.isfinite(x).all()) for x in vectors)
    return "fine" if vectors and good else "wrong"


KINDS = {"pth": checkpoints(".pth"), "safetensors": checkpoints(".safetensors"), "calls": calls}
