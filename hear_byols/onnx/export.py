"""A model as one ONNX file with its front end inside: waveform in, embeddings out (``docs/deploying.md``)."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hear_byols import __version__
from hear_byols._util.files import atomic_path
from hear_byols.concatenated import require_encoder
from hear_byols.errors import MissingDependencyError, OptionError, OutputError
from hear_byols.interface import AudioModel
from hear_byols.model import EmbeddingModel
from hear_byols.onnx.graph import SceneGraph, TimestampGraph

if TYPE_CHECKING:
    import onnxruntime

OPSET = 18
TOLERANCE = 1e-4  # of the largest component
INT8_TOLERANCE = 0.05  # likewise
INT8_ENCODERS = ("cnn", "cvt")  # that consist of matrix products in the main
_PREPARED = "onnx.quant.pre_process"  # what onnxruntime's quantizer looks for in the metadata
_FINEST_HOP = 1 << 20  # parts of a sample: 2 * n_samples * parts stays below 2**63 for years of audio
_CHECKS = ((1, 0.001), (1, 0.05), (1, 0.1), (2, 1.0), (3, 2.5))  # (clips, seconds)


@dataclass(frozen=True)
class OnnxExport:
    """What :func:`export_onnx` wrote."""

    path: Path
    size: int  # in bytes
    deviation: float | None  # from torch that the check saw, of the largest component of the result; None: unchecked


def export_onnx(
    model: AudioModel,
    path: str | os.PathLike[str],
    *,
    timestamps: bool = False,
    check: bool = False,
    int8: bool = False,
) -> OnnxExport:
    """Write a model with its front end and normalization as an ONNX file.

    The file takes ``waveform``, float32 [shape=(batch, n_samples)], mono in [-1, 1] at the model's sample rate; batch
    and length are free from 1. It gives ``embedding``, float32 [shape=(batch, size)]; with ``timestamps`` instead
    ``embeddings`` [shape=(batch, n_windows, size)] and ``times_ms`` [shape=(batch, n_windows)]. It does not check the
    audio. Arithmetic is float32 whatever the model's ``precision``. Everything that made the file is in its metadata.

    Args:
        model: from ``hear_byols.load_model``, with any normalization but ``original``.
        path: of the file; replaced only when the new one is whole.
        timestamps: embed windows (of the model's ``frame_ms`` and ``hop_ms``) instead of whole clips.
        check: run the file under onnxruntime before it takes its place, and compare with the model.
        int8: 8-bit weights in matrix products, half the size or less; vectors then differ within 0.05 of the largest
            component.

    Raises:
        OptionError: a model that cannot be exported: concatenated, openSMILE, of normalization ``original``, with
            timestamps whose hop in samples has too many binary digits for whole-number arithmetic, or with ``int8``
            and an encoder other than the CNN and the CvT.
        MissingDependencyError: a package of the extra ``onnx`` is not installed, or torch is older than 2.8.
        OutputError: the file cannot be written, or deviates from the model by more than 1e-4 (``int8``: 0.05).
    """
    encoder_model = _require_exportable(model, timestamps)
    name = encoder_model.config.encoder.name
    if int8 and name not in INT8_ENCODERS:
        raise OptionError(f"int8 is for the encoders {', '.join(INT8_ENCODERS)}; got {name!r}")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(f"ONNX export needs {', '.join(missing)}: pip install 'hear_byols[onnx]'")
    if not hasattr(torch.onnx, "ops"):
        raise MissingDependencyError(f"ONNX export needs torch 2.8 or newer, this is {torch.__version__}")
    path = Path(path)
    program = _trace(encoder_model, timestamps)
    about = metadata(encoder_model, timestamps) | ({"weights": "int8"} if int8 else {})
    program.model.metadata_props.update(about)
    tolerance = INT8_TOLERANCE if int8 else TOLERANCE
    try:
        with atomic_path(path) as part:
            program.save(part, external_data=False)
            if int8:
                quantize(part, about)
            deviation = compare(encoder_model, part, timestamps) if check else None
            if deviation is not None and not deviation <= tolerance:
                raise OutputError(
                    f"the ONNX file deviates from the model by {deviation:.2g} of the largest component, more than "
                    f"{tolerance:g}; {path} was not written"
                )
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error})") from error
    return OnnxExport(path, path.stat().st_size, deviation)


def quantize(path: Path, metadata: dict[str, str]) -> None:
    """Replace the weights of a file's matrix products by 8-bit ones; what flows through them is rounded at run time.

    The file has a third to half of the size, and is faster where the processor multiplies bytes.
    The front end and convolutions, which would be slower, stay float32. Weights have 7 of the 8 bits, so that older
    processors do not saturate. The file is replaced in place, and gets the metadata.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # folds constants
        options.optimized_model_filepath = str(plain)
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        model = onnx.load(plain)
        front = [node.name for node in model.graph.node if any(name.startswith("log_mel.") for name in node.input)]
        onnx.helper.set_model_props(model, {_PREPARED: "onnxruntime.quant"})
        onnx.save(model, plain)
        which: dict[str, Any] = {"op_types_to_quantize": ["MatMul", "Gemm"], "nodes_to_exclude": front}
        quantize_dynamic(plain, small, **which, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
        model = onnx.load(small)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, path)


def metadata(model: EmbeddingModel, timestamps: bool) -> dict[str, str]:
    """What the file says of itself under ONNX's ``metadata_props``; values are text, nested ones JSON."""
    content = {
        "hear_byols": __version__,
        "kind": "timestamps" if timestamps else "scene",
        "sample_rate": model.sample_rate,
        "embedding_size": model.timestamp_embedding_size if timestamps else model.scene_embedding_size,
        "normalization": model.normalization,
        "licence": model.provenance.get("licence", "not stated"),
        "config": json.dumps(model.config.to_dict()),
        "provenance": json.dumps(model.provenance),
    }
    if timestamps:
        content |= {"frame_ms": model.framing.frame_ms, "hop_ms": model.framing.hop_ms}
    return {name: str(value) for name, value in content.items()}


def compare(model: EmbeddingModel, path: str | os.PathLike[str], timestamps: bool) -> float:
    """Run an exported file beside the model that it was made from, on noise of several lengths.

    Returns:
        Largest difference, relative to the largest component of the result; infinite if shapes or times differ.
    """
    session = open_session(path)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for n_clips, seconds in _CHECKS:
        audio = 0.1 * torch.randn(n_clips, round(seconds * model.sample_rate), generator=generator)
        audio[0, audio.shape[1] // 2 :] = 0  # half of it silence
        got = [np.asarray(values) for values in session.run(None, {"waveform": audio.numpy()})]
        audio = audio.to(model.device)
        wanted = model.timestamp_embeddings(audio) if timestamps else (model.scene_embeddings(audio),)
        expected = [values.cpu().numpy() for values in wanted]
        if got[0].shape != expected[0].shape or not all(map(np.array_equal, got[1:], expected[1:])):
            return float("inf")
        difference = float(np.abs(got[0] - expected[0]).max() / np.abs(expected[0]).max())
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def open_session(path: str | os.PathLike[str], threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a file in onnxruntime, on the CPU; 0 threads: as many as cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])


def _require_exportable(model: AudioModel, timestamps: bool) -> EmbeddingModel:
    model = require_encoder(model, "export", "exported to ONNX")
    if model.config.normalization.mode == "original":
        raise OptionError(
            "normalization 'original' depends on the other clips of a call and is not exported to ONNX; "
            "load the model with normalization='clip' or 'dataset' (--normalization)"
        )
    if timestamps and model.framing.hop_samples.denominator > _FINEST_HOP:
        raise OptionError(
            f"hop_ms {model.framing.hop_ms!r} is no simple fraction of samples, and ONNX's whole numbers would "
            f"overflow on long audio; use a multiple of {1000 / model.sample_rate:g} ms, such as 50"
        )
    return model


def _trace(model: EmbeddingModel, timestamps: bool) -> Any:
    """Follow the computation with symbols for batch and length."""
    graph = TimestampGraph(model) if timestamps else SceneGraph(model)
    example = torch.zeros(2, 2 * model.sample_rate + 1)
    outputs = ["embeddings", "times_ms"] if timestamps else ["embedding"]
    sizes = {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("n_samples", min=1)}
    names = {"input_names": ["waveform"], "output_names": outputs, "dynamic_shapes": {"waveform": sizes}}
    logger = logging.getLogger("torch.onnx")
    with ExitStack() as stack, warnings.catch_warnings(), torch.no_grad():
        # The exporter warns of packages that it would support and we do not use.
        warnings.simplefilter("ignore")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)
        return torch.onnx.export(graph, (example,), dynamo=True, opset_version=OPSET, verbose=False, **names)
