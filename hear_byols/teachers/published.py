"""Reading the arrays out of published files: ONNX, ORT, TFLite and torch checkpoints.

The files are known by their hash, so names and order of what is in them are, too.
"""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hear_byols._util.imports import require

Arrays = dict[str, np.ndarray]

_ORT_TYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 6: np.int32, 7: np.int64}  # of onnx.TensorProto
_SWIFT_F0_CONVS = {
    "first": "v353",
    **{f"blocks.{i // 2}.conv{i % 2 + 1}": f"v{v}" for i, v in enumerate((357, 361, 366, 370, 375, 379, 384, 388))},
    **{f"blocks.{i // 2 + 4}.conv{i % 2 + 1}": f"v{v}" for i, v in enumerate((393, 397, 402, 406))},
    **{"narrow": "v413", "pitch": "v425", "peak": "v417", "voicing1": "v430", "voicing2": "v434"},
}
# Of each spectrogram: its window, and places, values and shape of its filters.
_SWIFT_F0_SPECTRA = {
    1024: ("v41", "v123", "v124", "v126"),
    2048: ("v161", "v241", "v242", "v244"),
    512: ("v262", "v342", "v343", "v345"),
}
_SMART_TURN_NUMBERS = {"q": 17, "k": 25, "v": 32, "o": 75, "fc1": 79, "fc2": 88}  # the exporter's, in the first block
_SMART_TURN_BIASED = {
    **{"q": "self_attn.q_proj", "v": "self_attn.v_proj", "o": "self_attn.out_proj", "fc1": "fc1", "fc2": "fc2"},
    **{"n1": "self_attn_layer_norm", "n2": "final_layer_norm"},
}


def read_torch(contents: Sequence[bytes]) -> Arrays:
    """A state dict, or a training checkpoint that holds one as ``model_state``; no code in it is run."""
    state = torch.load(io.BytesIO(contents[0]), map_location="cpu", weights_only=True)
    state = state.get("model_state", state)
    return {name: value.numpy() for name, value in state.items() if isinstance(value, torch.Tensor)}


def read_npz(contents: Sequence[bytes]) -> Arrays:
    """Arrays that were read out before."""
    with np.load(io.BytesIO(contents[0])) as data:
        return dict(data)


def read_swift_f0(contents: Sequence[bytes]) -> Arrays:
    """Windows, mel filters and convolutions, by the names of the module's parameters."""
    values, arrays = _onnx_values(contents[0]), {}
    for n_fft, (window, places, filters, shape) in _SWIFT_F0_SPECTRA.items():
        mel = np.zeros(values[shape].prod(), np.float32)
        mel[values[places]] = values[filters]
        arrays |= {f"window{n_fft}": values[window], f"mel{n_fft}": mel.reshape(values[shape])}
    for name, weight in _SWIFT_F0_CONVS.items():
        arrays |= {f"{name}.weight": values[weight], f"{name}.bias": values[f"v{int(weight[1:]) + 1}"]}
    return arrays


def read_speech_embedding(contents: Sequence[bytes]) -> Arrays:
    """The spectrogram's constants and the convolutions in their order."""
    spectrogram, network = map(_onnx_values, contents)
    # The transform is written as a convolution, whose first output is the window.
    arrays = {"window": spectrogram["0.stft.conv_real.weight"][0, 0], "mel": spectrogram["1.melW"]}
    convs = [node for node in _onnx_graph(contents[1]).node if node.op_type == "Conv"]
    for i, conv in enumerate(convs):
        arrays[f"w{i:02d}"] = network[conv.input[1]]
        if len(conv.input) > 2:
            arrays[f"b{i:02d}"] = network[conv.input[2]]
    return arrays


def read_smart_turn(contents: Sequence[bytes]) -> Arrays:
    """Int8 weights of the encoder and their scales."""
    values, encoder, arrays = _onnx_values(contents[0]), "inner.encoder.", {}
    for conv in ("conv1", "conv2"):
        place = f"{encoder}{conv}"
        bias = values[f"{place}.bias_quantized"] * values[f"{place}.bias_quantized_scale"]
        arrays |= {conv: values[f"{place}.weight_quantized"], f"{conv}_scale": values[f"{place}.weight_scale"]}
        arrays[f"{conv}_bias"] = bias.astype(np.float32)
    arrays["positions"] = values[f"{encoder}embed_positions.weight"].astype(np.float16)
    for i, shift in enumerate((0, 75, 148, 221)):
        for name, number in _SMART_TURN_NUMBERS.items():
            fewer = 2 if i and number > 32 else 0  # values that lie between, after the first block
            place = f"val_{number + shift - fewer}"
            arrays |= {f"{i}{name}": values[f"{place}_quantized"], f"{i}{name}_scale": values[f"{place}_scale"]}
        for name, attribute in _SMART_TURN_BIASED.items():
            arrays[f"{i}{name}_bias"] = values[f"{encoder}layers.{i}.{attribute}.bias"]
        for name in ("n1", "n2"):
            arrays[f"{i}{name}"] = values[f"{encoder}layers.{i}.{_SMART_TURN_BIASED[name]}.weight"]
    arrays["n"], arrays["n_bias"] = (values[f"{encoder}layer_norm.{part}"] for part in ("weight", "bias"))
    return arrays


def read_moonshine(contents: Sequence[bytes]) -> Arrays:
    """Uint8 weights of the encoder, their scales and zeros; which is which is in the names of the nodes."""
    graph = _ort_graph(contents[0])
    values = _ort_values(graph)
    arrays = {}
    for node in map(graph.Nodes, range(graph.NodesLength())):
        inputs = [node.Inputs(i).decode() for i in range(node.InputsLength())]
        name, kind = node.Outputs(0).decode().strip("/"), node.OpType().decode()
        if kind in ("MatMulIntegerToFloat", "DynamicQuantizeMatMul"):
            [weight] = (given for given in inputs if given.endswith("_quantized") and given in values)
            base = weight.removesuffix("_quantized")
            [layer] = (part for part in name.split("/") if part.endswith(("_proj", "fc1", "fc2")))
            key = name.split(".")[1][0] + layer.removesuffix("_proj")
            arrays[key] = values[weight]
            arrays |= {f"{key}_scale": values[f"{base}_scale"], f"{key}_zero": values[f"{base}_zero_point"]}
        elif kind in ("Conv", "FusedConv"):
            conv = inputs[1][:5]
            arrays[conv] = values[inputs[1]]
            if len(inputs) > 2 and inputs[2]:
                arrays[f"{conv}_bias"] = values[inputs[2]]
        elif kind in ("Mul", "Add") and "groupnorm" in name:
            arrays["group" if kind == "Mul" else "group_bias"] = values[inputs[1]].ravel()
        elif "LayerNorm" in kind:
            key = "n" if "layers" not in name else name.split(".")[1][0] + ("n1" if "input" in name else "n2")
            [arrays[key]] = (values[given] for given in inputs if given.endswith("norm.weight"))
    for i in range(6):
        arrays |= {f"{i}{part}_bias": values[f"layers.{i}.mlp.{part}.bias"] for part in ("fc1", "fc2")}
    return arrays


def read_yamnet(contents: Sequence[bytes]) -> Arrays:
    """Int8 weights with their scales; the spectrogram's window, filters and offset."""
    tflite = _need("tflite")
    model = tflite.Model.GetRootAs(contents[0], 0)
    graph = model.Subgraphs(0)

    def values(tensor: Any, kind: type) -> np.ndarray:
        return model.Buffers(tensor.Buffer()).DataAsNumpy().view(kind).reshape(tensor.ShapeAsNumpy())

    def scales(tensor: Any) -> np.ndarray:
        return tensor.Quantization().ScaleAsNumpy()

    names = ("MUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
    kinds = {getattr(tflite.BuiltinOperator, name): name for name in names}
    arrays, n_convs = {}, 0
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))  # older files have only the latter
        inputs = [graph.Tensors(i) for i in operator.InputsAsNumpy() if i >= 0]
        if kind == "MUL" and "window" not in arrays:
            arrays["window"] = values(inputs[1], np.float32).ravel()
        elif kind == "FULLY_CONNECTED" and "mel" not in arrays:
            arrays |= {"mel": values(inputs[1], np.float32), "offset": values(inputs[2], np.float32)}
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            key = f"c{n_convs:02d}" + "d" * (kind == "DEPTHWISE_CONV_2D")
            n_convs += 1
            bias = values(inputs[2], np.int32) * scales(inputs[2])
            arrays |= {key: values(inputs[1], np.int8), f"{key}_scale": scales(inputs[1])}
            arrays[f"{key}_bias"] = bias.astype(np.float32)
    return arrays


READERS: dict[str, Callable[[Sequence[bytes]], Arrays]] = {
    "smart_turn": read_smart_turn,
    "moonshine": read_moonshine,
    "mn04": read_torch,
    "resemblyzer": read_torch,
    "swift_f0": read_swift_f0,
    "yamnet": read_yamnet,
    "speech_embedding": read_speech_embedding,
}


def _onnx_graph(content: bytes) -> Any:
    return _need("onnx").load_from_string(content).graph


def _onnx_values(content: bytes) -> Arrays:
    to_array = _need("onnx.numpy_helper").to_array
    return {tensor.name: to_array(tensor) for tensor in _onnx_graph(content).initializer}


def _ort_graph(content: bytes) -> Any:
    """The graph of a file in ONNX Runtime's own format, whose reader comes with the runtime beside its modules."""
    runtime = _need("onnxruntime")
    folder = str(Path(runtime.__file__).parent / "tools" / "ort_format_model")
    sys.path.append(folder)
    try:
        session = _need("ort_flatbuffers_py.fbs.InferenceSession")
    finally:
        sys.path.remove(folder)
    return session.InferenceSession.GetRootAs(content, 0).Model().Graph()


def _ort_values(graph: Any) -> Arrays:
    values = {}
    for tensor in map(graph.Initializers, range(graph.InitializersLength())):
        shape = tensor.DimsAsNumpy() if tensor.DimsLength() else []
        values[tensor.Name().decode()] = tensor.RawDataAsNumpy().view(_ORT_TYPES[tensor.DataType()]).reshape(shape)
    return values


def _need(module: str) -> Any:
    return require(module, "reading this teacher's published file", "teachers")
