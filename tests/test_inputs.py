"""Bad input gets one clear error that names the clip, what was got and what is accepted."""

import numpy as np
import pytest
import torch

import hear_byols
from hear_byols.errors import InputError, OptionError
from hear_byols.inputs import pad_short

ONE_SECOND = torch.zeros(1, 16000)


@pytest.fixture(scope="module")
def model():
    return hear_byols.load_model("random_cvt")


def with_sample(value: float, clip: int = 1, place: int = 77) -> torch.Tensor:
    audio = torch.zeros(3, 16000)
    audio[clip, place] = value
    return audio


BATCHES = {
    "one dimension": (torch.zeros(16000), ["(n_clips, n_samples)", "(16000,)", "audio[None]"]),
    "three dimensions": (torch.zeros(2, 2, 16000), ["(n_clips, n_samples)", "(2, 2, 16000)", "mean(dim=1)"]),
    "no dimension": (torch.tensor(0.5), ["(n_clips, n_samples)", "()"]),
    "int16": (torch.zeros(1, 16000, dtype=torch.int16), ["int16", "float32", "/ 32768"]),
    "int32": (torch.zeros(1, 16000, dtype=torch.int32), ["int32", "/ 2147483648"]),
    "uint8": (torch.zeros(1, 16000, dtype=torch.uint8), ["uint8", "128"]),
    "bool": (torch.zeros(1, 16000, dtype=torch.bool), ["bool", "float32"]),
    "complex": (torch.zeros(1, 16000, dtype=torch.complex64), ["complex64", "float32"]),
    "big-endian integers": (np.zeros((1, 16000), ">i2"), ["int16", "32768"]),
    "sparse": (ONE_SECOND.to_sparse(), ["sparse", "to_dense"]),
    "nested": (torch.nested.nested_tensor(list(torch.zeros(2, 9)), layout=torch.jagged), ["nested", "list of clips"]),
    "masked": (np.ma.MaskedArray(np.zeros((1, 9)), mask=np.arange(9)[None] > 2), ["masked", "filled"]),
    "beyond float32": (np.full((1, 9000), np.longdouble("1e1000")), ["clip 0", "9000 samples that are NaN"]),
    "object array": (np.array([[None]]), ["object", "float32"]),
    "a path": ("speech.wav", ["str", "load_audio"]),
    "none": (None, ["NoneType", "load_audio"]),
    "no clips": (torch.zeros(0, 16000), ["no clips", "(0, 16000)", "at least one"]),
    "no samples": (torch.zeros(2, 0), ["no samples", "(2, 0)", "at least one"]),
    "NaN": (with_sample(float("nan")), ["clip 1", "NaN", "sample 77"]),
    "infinity": (with_sample(float("-inf"), clip=2, place=5), ["clip 2", "infinite", "sample 5"]),
    "integers cast to float": (with_sample(-12000.0), ["clip 1", "12000", "[-1, 1]", "32768"]),
    "another device": (torch.zeros(1, 16000, device="meta"), ["meta", "cpu", ".to("]),
    "an empty list": ([], ["no clips", "at least one"]),
    "a list with a bad clip": ([torch.zeros(9), torch.zeros(1, 9)], ["clip 1", "(n_samples,)", "(1, 9)"]),
    "a list with an empty clip": ([torch.zeros(9), torch.zeros(0)], ["clip 1", "no samples"]),
    "a list with NaN": ([torch.zeros(9), torch.full((9,), float("nan"))], ["clip 1", "NaN"]),
    "a list with integers": ([torch.zeros(9), torch.zeros(9, dtype=torch.int16)], ["clip 1", "int16", "32768"]),
    "a list with a scalar": ([np.array(1.0, dtype=">f8")], ["clip 0", "shape"]),
    "a list of numbers": ([0.1, 0.2], ["clip 0", "float"]),
    "a list on another device": ([torch.zeros(9, device="meta")], ["clip 0", "meta", "cpu"]),
}


@pytest.mark.filterwarnings("error")
def test_bad_audio(model):
    for audio, words in BATCHES.values():
        for embed in (hear_byols.get_scene_embeddings, hear_byols.get_timestamp_embeddings):
            with pytest.raises(InputError) as caught:
                embed(audio, model)
            assert all(word in str(caught.value) for word in words), str(caught.value)
            assert isinstance(caught.value, ValueError)
    with pytest.raises(InputError, match="clip 1"):
        model(with_sample(float("nan")))  # with gradients


def test_a_model_of_another_kind():
    for other in [None, "cvt_hybrid", torch.nn.Linear(1, 1)]:
        with pytest.raises(InputError, match="load_model"):
            hear_byols.get_scene_embeddings(ONE_SECOND, other)


def test_bad_options():
    for options, words in [
        ({"frame_ms": 0}, ["frame_ms", "positive", "0"]),
        ({"frame_ms": "1000"}, ["frame_ms", "'1000'"]),
        ({"frame_ms": float("nan")}, ["frame_ms", "nan"]),
        ({"frame_ms": 5}, ["frame_ms", "at least", "5"]),
        ({"hop_ms": -50}, ["hop_ms", "-50"]),
        ({"hop_ms": True}, ["hop_ms", "True"]),
        ({"hop_ms": 0.01}, ["hop_ms", "one sample", "0.0625"]),
        ({"normalization": "batch"}, ["normalization", "dataset, clip, halfway, original", "batch"]),
        ({"normalization": "dataset"}, ["dataset", "mean and std", "clip"]),
        ({"batch_size": 0}, ["batch_size", "positive", "0"]),
        ({"batch_size": 2.0}, ["batch_size", "2.0"]),
        ({"precision": "int8"}, ["precision", "float32, bfloat16, float16", "int8"]),
    ]:
        with pytest.raises(OptionError) as caught:
            hear_byols.load_model("random_cnn", **options)
        for word in words:
            assert word in str(caught.value)


def test_only_short_clips_are_padded_and_others_not_copied():
    clips = torch.rand(2, 1600)
    assert torch.equal(pad_short(clips, 1603), torch.cat([clips, torch.zeros(2, 3)], 1))
    assert pad_short(clips, 1600) is clips
