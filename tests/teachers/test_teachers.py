"""Teachers as modules, with random weights: what holds whatever they have learnt."""

from __future__ import annotations

import pytest
import torch
from random_teachers import random_teacher, sounds

from hear_byols.errors import InputError, OptionError
from hear_byols.teachers import CLASSES, get_scene_embeddings, get_timestamp_embeddings, list_teachers
from hear_byols.teachers.base import in_pieces

NAMES = sorted(CLASSES)
SIZES = {
    "smart_turn": 1536,
    "moonshine": 864,
    "mn04": 688,
    "resemblyzer": 512,
    "swift_f0": 191,
    "yamnet": 2560,
    "speech_embedding": 456,
}


def assert_close(got, wanted):
    """Equal within 1e-5 of what a clip's frames reach."""
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_every_teacher_has_a_record_and_a_class():
    assert sorted(list_teachers()) == NAMES == sorted(SIZES)


@pytest.mark.parametrize("name", NAMES)
def test_frames_have_the_size_that_is_announced(name):
    teacher, audio = random_teacher(name), sounds(2, 16000)
    frames, times = get_timestamp_embeddings(audio, teacher)
    assert teacher.sample_rate == 16000
    assert frames.shape == (2, frames.shape[1], teacher.timestamp_embedding_size) == (2, frames.shape[1], SIZES[name])
    assert times.shape == frames.shape[:2]
    scenes = get_scene_embeddings(audio, teacher)
    assert torch.equal(scenes, torch.cat([frames.mean(1), frames.amax(1)], 1))
    assert scenes.shape[1] == teacher.scene_embedding_size == 2 * SIZES[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_does_not_matter(name):
    teacher = random_teacher(name)
    for audio in (sounds(4, n_samples) for n_samples in (1, 777, 40001)):
        together = teacher(audio)
        for i in range(4):
            assert_close(together[i : i + 1], teacher(audio[i : i + 1]))


@pytest.mark.parametrize("name", NAMES)
def test_any_length_of_silence_gives_finite_frames_inside_the_clip(name):
    teacher = random_teacher(name)
    for n_samples in (1, 256, 257, 641, 12513, 140001):
        frames, times = get_timestamp_embeddings(torch.zeros(1, n_samples), teacher)
        assert bool(torch.isfinite(frames).all())
        assert frames.shape[1] >= 1
        steps = times[0].diff()
        assert bool((steps == teacher.frame_ms).all())
        assert times[0, -1] - times[0, 0] <= n_samples / 16 + teacher.frame_ms


@pytest.mark.parametrize("n_frames", [1, 4, 5, 9, 12])
def test_pieces_are_the_whole(n_frames):
    """Of a network without memory, pieces are no different; the last one is never short."""
    seen = []

    def embed(piece):
        seen.append(piece.shape[1])
        return piece.unfold(1, 5, 3).mean(2, keepdim=True)

    audio = torch.arange(float(3 * n_frames + 2 + 1))[None]  # a sample too few for another frame
    assert torch.equal(in_pieces(embed, audio, n_frames, hop=3, overlap=2, most=4), embed(audio))
    assert n_frames <= 4 or set(seen[:-1]) == {14}


@pytest.mark.parametrize("name", NAMES)
def test_the_surrounding_arithmetic_does_not_matter(name):
    teacher, audio = random_teacher(name), sounds(2, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        within = teacher(audio)
    assert within.dtype == torch.float32
    assert torch.equal(within, teacher(audio))


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_an_option(name):
    audio = sounds(2, 16000)
    exact, rough = random_teacher(name)(audio), random_teacher(name, precision="bfloat16")(audio)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert float((exact - rough).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_columns(name):
    default, audio = random_teacher(name), sounds(1, 16000)
    frames = default(audio)
    alone = [random_teacher(name, layers=[layer]) for layer in default.layers]
    always = {"yamnet": 1024, "speech_embedding": 96}.get(name, 0)
    parts = [teacher(audio)[..., always:] for teacher in alone]
    assert_close(torch.cat([frames[..., :always], *parts], 2), frames)


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_agrees(name):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    audio = sounds(3, 16000)
    here, there = random_teacher(name)(audio), random_teacher(name).to("cuda")(audio.to("cuda"))
    assert float((here - there.cpu()).abs().max() / here.abs().max()) < 1e-3


def test_what_is_refused():
    with pytest.raises(OptionError, match="layers of moonshine are from 0 to 6"):
        random_teacher("moonshine", layers=[7])
    with pytest.raises(OptionError, match="layers of mn04"):
        random_teacher("mn04", layers=[])
    with pytest.raises(OptionError, match="precision must be one of"):
        random_teacher("mn04", precision="int8")
    for shape in [(16000,), (1, 0), (1, 1, 16000)]:
        with pytest.raises(InputError, match=r"\(n_clips, n_samples\)"):
            random_teacher("mn04")(torch.zeros(shape))
