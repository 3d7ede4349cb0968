"""Reading published formats: files made here, with the layout of the published ones."""

from __future__ import annotations

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
    state = {name: value.numpy() for name, value in teacher.state_dict().items()}
    builder, buffers, tensors, operators = flatbuffers.Builder(1 << 22), [b""], [], []
    codes = ["MUL", "FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D"]

    def tensor(values, scale=None):
        buffers.append(np.ascontiguousarray(values).tobytes())
        tensors.append((values.shape, len(buffers) - 1, scale))
        return len(tensors) - 1

    def operator(kind, *arrays):
        operators.append((codes.index(kind), [0, *arrays]))

    tensor(np.zeros(1, np.float32))  # the input
    operator("MUL", tensor(state["window"]))
    operator("FULLY_CONNECTED", tensor(state["mel"].T), tensor(state["offset"]))
    for i in range(27):
        weight, bias = state[f"convs.{i}.weight"], state[f"convs.{i}.bias"]
        depthwise = i % 2 == 1
        scale = (np.abs(weight).max((1, 2, 3)) / 127).astype(np.float32)
        whole = np.round(weight / scale[:, None, None, None]).astype(np.int8)
        layout = whole.transpose(1, 2, 3, 0) if depthwise else whole.transpose(0, 2, 3, 1)
        bias_scale = np.full_like(scale, 1e-4)
        given = tensor(layout, scale), tensor(np.round(bias / bias_scale).astype(np.int32), bias_scale)
        operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", *given)
    one = np.ones(1, np.float32)
    operator("FULLY_CONNECTED", tensor(np.zeros((521, 1024), np.int8), one), tensor(np.zeros(521, np.int32), one))
    return _tflite_bytes(tflite, builder, buffers, tensors, operators, codes)


def _tflite_bytes(tflite, builder, buffers, tensors, operators, codes):
    def offsets(start, places):
        start(builder, len(places))
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()

    def buffer(content):
        data = builder.CreateNumpyVector(np.frombuffer(content, np.uint8)) if content else None
        tflite.BufferStart(builder)
        if data is not None:
            tflite.BufferAddData(builder, data)
        return tflite.BufferEnd(builder)

    def tensor(shape, place, scale):
        dims = builder.CreateNumpyVector(np.array(shape, np.int32))
        scales = builder.CreateNumpyVector(np.zeros(0, np.float32) if scale is None else scale)
        tflite.QuantizationParametersStart(builder)
        tflite.QuantizationParametersAddScale(builder, scales)
        quantization = tflite.QuantizationParametersEnd(builder)
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, dims)
        tflite.TensorAddBuffer(builder, place)
        tflite.TensorAddQuantization(builder, quantization)
        return tflite.TensorEnd(builder)

    def operator(code, inputs):
        given = builder.CreateNumpyVector(np.array(inputs, np.int32))
        tflite.OperatorStart(builder)
        tflite.OperatorAddOpcodeIndex(builder, code)
        tflite.OperatorAddInputs(builder, given)
        return tflite.OperatorEnd(builder)

    def code(name):
        tflite.OperatorCodeStart(builder)
        # as files of the published one's age say it
        tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, getattr(tflite.BuiltinOperator, name))
        return tflite.OperatorCodeEnd(builder)

    made = offsets(tflite.SubGraphStartTensorsVector, [tensor(*values) for values in tensors])
    steps = offsets(tflite.SubGraphStartOperatorsVector, [operator(*values) for values in operators])
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, made)
    tflite.SubGraphAddOperators(builder, steps)
    graphs = offsets(tflite.ModelStartSubgraphsVector, [tflite.SubGraphEnd(builder)])
    contents = offsets(tflite.ModelStartBuffersVector, [buffer(content) for content in buffers])
    names = offsets(tflite.ModelStartOperatorCodesVector, [code(name) for name in codes])
    tflite.ModelStart(builder)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, contents)
    tflite.ModelAddOperatorCodes(builder, names)
    builder.Finish(tflite.ModelEnd(builder))
    return bytes(builder.Output())


def test_mn04_folds_its_batch_norms():
    """The folded convolution computes what convolution and norm did."""
    arrays = {}
    generator = np.random.default_rng(0)
    for key, value in random_teacher("mn04").state_dict().items():
        arrays |= _unfolded(key, value.numpy(), generator)
    state = CONVERTERS["mn04"](arrays)
    assert state.keys() == random_teacher("mn04").state_dict().keys()
    x = torch.randn(1, 16, 5, 5)
    place = "features.4.block.0"
    norm = [torch.from_numpy(arrays[f"{place}.1.{part}"]) for part in ("running_mean", "running_var", "weight", "bias")]
    wanted = torch.nn.functional.conv2d(x, torch.from_numpy(arrays[f"{place}.0.weight"]))
    wanted = torch.nn.functional.batch_norm(wanted, *norm, eps=1e-3)
    got = torch.nn.functional.conv2d(x, state["blocks.3.expand.weight"], state["blocks.3.expand.bias"])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def _unfolded(key, value, generator):
    """The arrays of the published file that a parameter comes from, with norms that do something."""
    name, part = key.rsplit(".", 1)
    if ".squeeze." in name:
        number, _, layer = name.removeprefix("blocks.").split(".")
        return {f"features.{int(number) + 1}.block.2.conc_se_layers.0.{_LINEARS[layer]}.{part}": value}
    if name in ("first", "last"):
        place = "features.0" if name == "first" else "features.16"
    else:
        number, kind = name.removeprefix("blocks.").split(".")
        squeezed = int(number) in (3, 4, 5, 10, 11, 12, 13, 14)
        order = ["depthwise", "project"] if number == "0" else ["expand", "depthwise", "project"]
        step = order.index(kind) + (squeezed and kind == "project")
        place = f"features.{int(number) + 1}.block.{step}"
    if part == "weight":
        return {f"{place}.0.weight": value}
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{place}.1.{kind}": generator.uniform(0.5, 2, value.shape).astype(np.float32) for kind in kinds}


_LINEARS = {"squeeze": "fc1", "excite": "fc2"}


@pytest.mark.parametrize(
    ("name", "library"), [("swift_f0", "onnx"), ("yamnet", "tflite"), ("moonshine", "onnxruntime")]
)
def test_a_missing_library_is_named(name, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf'needs {library} .*pip install "hear_byols\[teachers\]"'):
        READERS[name]([b""])
