"""From the arrays of a published file to the weights of a teacher's module, by the names of its parameters."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Arrays = Mapping[str, np.ndarray]
State = dict[str, Tensor]


def smart_turn(arrays: Arrays) -> State:
    """Int8 weights with a scale for each output."""
    state = {}
    for conv in ("conv1", "conv2"):
        state[f"{conv}.weight"] = arrays[conv].astype(np.float32) * arrays[f"{conv}_scale"][:, None, None]
        state[f"{conv}.bias"] = arrays[f"{conv}_bias"]
    state |= {"positions": arrays["positions"], **_layer(arrays, "n", "norm")}

    def linear(key: str) -> np.ndarray:
        return (arrays[key].astype(np.float32) * arrays[f"{key}_scale"]).T

    for i in range(4):
        state |= _block(arrays, i, linear)
        query, value = arrays[f"{i}q_bias"], arrays[f"{i}v_bias"]
        state[f"blocks.{i}.query_key_value.bias"] = np.concatenate([query, np.zeros_like(query), value])
        state[f"blocks.{i}.attention_out.bias"] = arrays[f"{i}o_bias"]
    return _tensors(state)


def moonshine(arrays: Arrays) -> State:
    """Uint8 weights with a scale and a zero each; convolutions and norms in float."""
    state = _layer(arrays, "group", "group_norm") | _layer(arrays, "n", "norm")
    for conv in ("conv1", "conv2", "conv3"):
        state |= _layer(arrays, conv, conv)

    def linear(key: str) -> np.ndarray:
        zero, scale = np.float32(arrays[f"{key}_zero"].item()), np.float32(arrays[f"{key}_scale"].item())
        return ((arrays[key].astype(np.float32) - zero) * scale).T

    for i in range(6):
        state |= _block(arrays, i, linear)
    return _tensors(state)


def yamnet(arrays: Arrays) -> State:
    """Int8 convolutions with a scale for each output, channels last; the spectrogram's constants."""
    names = sorted(name for name in arrays if name[0] == "c" and "_" not in name)
    state = {"window": arrays["window"], "mel": arrays["mel"].T, "offset": arrays["offset"]}
    for i, name in enumerate(names):
        # (1, height, width, channels) of a depthwise convolution, else (channels, height, width, inputs)
        axes = (3, 0, 1, 2) if name.endswith("d") else (0, 3, 1, 2)
        weight = arrays[name].astype(np.float32).transpose(axes)
        state[f"convs.{i}.weight"] = weight * arrays[f"{name}_scale"][:, None, None, None]
        state[f"convs.{i}.bias"] = arrays[f"{name}_bias"]
    return _tensors(state)


def speech_embedding(arrays: Arrays) -> State:
    """Convolutions in the order of the network; the spectrogram's constants."""
    state = {name: arrays[name] for name in ("window", "mel")}
    for i in range(19):
        state |= {f"convs.{i}.weight": arrays[f"w{i:02d}"], f"convs.{i}.bias": arrays[f"b{i:02d}"]}
    return _tensors({**state, "last.weight": arrays["w19"]})


def swift_f0(arrays: Arrays) -> State:
    """Nothing but names."""
    return _tensors(arrays)


def resemblyzer(arrays: Arrays) -> State:
    """The LSTM's three layers apart; what only the training needed is left out."""
    state = {f"linear.{part}": arrays[f"linear.{part}"] for part in ("weight", "bias")}
    for i in range(3):
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            state[f"lstm.{i}.{part}_l0"] = arrays[f"lstm.{part}_l{i}"]
    return _tensors(state)


def mn04(arrays: Arrays) -> State:
    """Batch norms folded into the convolutions before them; the classifier is left out."""
    state = _folded(arrays, "features.0", "first") | _folded(arrays, "features.16", "last")
    for number in range(1, 16):
        place, block = f"features.{number}.block", f"blocks.{number - 1}"
        parts = sorted({int(key.split(".")[3]) for key in arrays if key.startswith(f"{place}.")})
        squeeze = [part for part in parts if f"{place}.{part}.conc_se_layers.0.fc1.weight" in arrays]
        convs = [part for part in parts if part not in squeeze]
        for part, name in zip(convs, ("expand", "depthwise", "project")[-len(convs) :], strict=True):
            state |= _folded(arrays, f"{place}.{part}", f"{block}.{name}")
        for part in squeeze:
            for given, name in (("fc1", "squeeze"), ("fc2", "excite")):
                layer = f"{place}.{part}.conc_se_layers.0.{given}"
                state |= {f"{block}.squeeze.{name}.{kind}": arrays[f"{layer}.{kind}"] for kind in ("weight", "bias")}
    return _tensors(state)


CONVERTERS: dict[str, Callable[[Arrays], State]] = {
    function.__name__: function
    for function in (smart_turn, moonshine, mn04, resemblyzer, swift_f0, yamnet, speech_embedding)
}


def _block(arrays: Arrays, i: int, linear: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """Weights of a transformer block; the attention's biases are not there."""
    place = f"blocks.{i}."
    state = {f"{place}query_key_value.weight": np.concatenate([linear(f"{i}{name}") for name in "qkv"])}
    state[f"{place}attention_out.weight"] = linear(f"{i}o")
    for key, name in (("fc1", "perceptron_in"), ("fc2", "perceptron_out")):
        state |= {f"{place}{name}.weight": linear(f"{i}{key}"), f"{place}{name}.bias": arrays[f"{i}{key}_bias"]}
    norms = _layer(arrays, f"{i}n1", f"{place}attention_norm") | _layer(arrays, f"{i}n2", f"{place}perceptron_norm")
    return state | norms


def _layer(arrays: Arrays, key: str, name: str) -> dict[str, np.ndarray]:
    """Weight of a layer, and its bias if it has one."""
    bias = {f"{name}.bias": arrays[f"{key}_bias"]} if f"{key}_bias" in arrays else {}
    return {f"{name}.weight": arrays[key], **bias}


def _folded(arrays: Arrays, place: str, name: str) -> dict[str, np.ndarray]:
    """Convolution ``place.0`` and its batch norm ``place.1`` as one, computed in float64."""
    weight, norm_weight, norm_bias, mean, variance = (
        arrays[f"{place}.{part}"].astype(np.float64)
        for part in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")
    )
    scale = norm_weight / np.sqrt(variance + 1e-3)
    return {f"{name}.weight": weight * scale[:, None, None, None], f"{name}.bias": norm_bias - mean * scale}


def _tensors(state: Arrays) -> State:
    return {name: torch.from_numpy(np.array(value, np.float32, order="C")) for name, value in state.items()}
