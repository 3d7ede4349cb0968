"""Reading published formats: files made here, with the layout of the published ones."""

import sys

import numpy as np
import pytest
import torch
from random_teachers import random_teacher

from hear_byols.errors import MissingDependencyError
from hear_byols.teachers.convert import CONVERTERS
from hear_byols.teachers.published import READERS


def state_of(name, *contents):
    """What a published file becomes."""
    return CONVERTERS[name](READERS[name](contents))


def assert_same_state(got, teacher, tolerance=0.0):
    wanted = teacher.state_dict()
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(got[key], value, rtol=tolerance, atol=tolerance)


def onnx_model(nodes, arrays):
    """An ONNX file of these nodes and initializers."""
    onnx = pytest.importorskip("onnx")
    initializers = [onnx.numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in arrays.items()]
    made = [onnx.helper.make_node(kind, inputs, [f"out{i}"]) for i, (kind, inputs) in enumerate(nodes)]
    return onnx.helper.make_model(onnx.helper.make_graph(made, "g", [], [], initializers)).SerializeToString()


def test_speech_embedding():
    teacher = random_teacher("speech_embedding")
    state = {name: value.numpy() for name, value in teacher.state_dict().items()}
    basis = state["window"] * np.cos(np.arange(257)[:, None] * np.arange(512) * 2 * np.pi / 512)
    arrays = {"0.stft.conv_real.weight": basis[:, None].astype(np.float32), "1.melW": state["mel"]}
    spectrogram = onnx_model([], arrays)
    convs, weights = [], {}
    for i in range(19):
        weights |= {f"a{i}": state[f"convs.{i}.weight"], f"z{i}": state[f"convs.{i}.bias"]}
        convs.append(("Conv", ["x", f"a{i}", f"z{i}"]))
    network = onnx_model([*convs, ("Conv", ["x", "last"])], {**weights, "last": state["last.weight"]})
    assert_same_state(state_of("speech_embedding", spectrogram, network), teacher)


def test_yamnet():
    tflite, flatbuffers = pytest.importorskip("tflite"), pytest.importorskip("flatbuffers")
    teacher = random_teacher("yamnet")
    content = yamnet_file(tflite, flatbuffers, teacher)
    assert_same_state(state_of("yamnet", content), teacher, 5e-3)  # of int8 steps


def yamnet_file(tflite, flatbuffers, teacher):
    """A TFLite file of a teacher's weights in int8, in the order of the published one."""
    builder = flatbuffers.Builder(1 << 22)
    codes = ("MUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")

    def table(kind, **fields):
        getattr(tflite, f"{kind}Start")(builder)
        for name, value in fields.items():
            getattr(tflite, f"{kind}Add{name}")(builder, value)
        return getattr(tflite, f"{kind}End")(builder)

    def tables(places):
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    buffers, tensors, operators = [table("Buffer")], [], []

    def tensor(values, scale=()):
        content = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        buffers.append(table("Buffer", Data=builder.CreateNumpyVector(content)))
        shape = builder.CreateNumpyVector(np.array(values.shape, np.int32))
        scales = builder.CreateNumpyVector(np.array(scale, np.float32))
        quantization = table("QuantizationParameters", Scale=scales)
        tensors.append(table("Tensor", Shape=shape, Buffer=len(buffers) - 1, Quantization=quantization))
        return len(tensors) - 1

    def operator(kind, *inputs):
        inputs = builder.CreateNumpyVector(np.array([0, *inputs], np.int32))
        operators.append(table("Operator", OpcodeIndex=codes.index(kind), Inputs=inputs))

    state = {name: value.numpy() for name, value in teacher.state_dict().items()}
    tensor(np.zeros(1, np.float32))  # the input
    operator("MUL", tensor(state["window"]))
    operator("FULLY_CONNECTED", tensor(state["mel"].T), tensor(state["offset"]))
    for i in range(27):
        weight, bias = state[f"convs.{i}.weight"], state[f"convs.{i}.bias"]
        scale = np.abs(weight).max((1, 2, 3)) / 127
        whole = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        kind, axes = ("DEPTHWISE_CONV_2D", (1, 2, 3, 0)) if i % 2 else ("CONV_2D", (0, 2, 3, 1))
        bias_scale = np.full_like(scale, 1e-4)
        given = tensor(whole.transpose(axes), scale), tensor(np.round(bias / bias_scale).astype(np.int32), bias_scale)
        operator(kind, *given)
    operator("FULLY_CONNECTED", tensor(np.zeros((521, 1024), np.int8), [1]), tensor(np.zeros(521, np.int32), [1]))
    graph = {"Tensors": tables(tensors), "Operators": tables(operators)}
    # Files of the published one's age have the kinds of operators in this field.
    kinds = [table("OperatorCode", DeprecatedBuiltinCode=getattr(tflite.BuiltinOperator, name)) for name in codes]
    model = {
        "Subgraphs": tables([table("SubGraph", **graph)]),
        "Buffers": tables(buffers),
        "OperatorCodes": tables(kinds),
    }
    builder.Finish(table("Model", **model))
    return bytes(builder.Output())


def mn04_arrays(teacher):
    """The arrays of a published file with a teacher's weights, and norms that do something."""
    arrays, dice = {}, np.random.default_rng(0)
    places = {"first": "features.0", "last": "features.16"}
    for i, block in enumerate(teacher.blocks):
        steps = enumerate(name for name, _ in block.named_children())
        places |= {f"blocks.{i}.{name}": f"features.{i + 1}.block.{step}" for step, name in steps}
    for name, place in places.items():
        module = teacher.get_submodule(name)
        if name.endswith("squeeze"):
            for given, layer in (("fc1", module.squeeze), ("fc2", module.excite)):
                for part, value in layer.state_dict().items():
                    arrays[f"{place}.conc_se_layers.0.{given}.{part}"] = value.numpy()
            continue
        arrays[f"{place}.0.weight"] = module.weight.numpy()
        for kind in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{place}.1.{kind}"] = dice.uniform(0.5, 2, len(module.bias)).astype(np.float32)
    return arrays


def test_mn04_folds_its_batch_norms():
    """The folded convolution computes what convolution and norm did."""
    teacher = random_teacher("mn04")
    arrays = mn04_arrays(teacher)
    state = CONVERTERS["mn04"](arrays)
    assert state.keys() == teacher.state_dict().keys()
    x, place = torch.randn(1, 16, 5, 5), "features.4.block.0"
    norm = [torch.from_numpy(arrays[f"{place}.1.{part}"]) for part in ("running_mean", "running_var", "weight", "bias")]
    wanted = torch.nn.functional.conv2d(x, torch.from_numpy(arrays[f"{place}.0.weight"]))
    wanted = torch.nn.functional.batch_norm(wanted, *norm, eps=1e-3)
    got = torch.nn.functional.conv2d(x, state["blocks.3.expand.weight"], state["blocks.3.expand.bias"])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_a_missing_library_is_named(monkeypatch):
    for name, library in (("swift_f0", "onnx"), ("yamnet", "tflite"), ("moonshine", "onnxruntime")):
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(MissingDependencyError, match=rf'needs {library} .*pip install "hear_byols\[teachers\]"'):
            READERS[name]([b""])
