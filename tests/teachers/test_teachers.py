"""Teachers with random weights: what holds whatever they have learnt, and that they are models as every other."""

import numpy as np
import pytest
import soundfile
import torch
from random_teachers import random_teacher, sounds

import hear_byols
from hear_byols.analysis.layers import named_layers
from hear_byols.analysis.similarity import compare_layers
from hear_byols.cli.main import main
from hear_byols.errors import InputError, OptionError, WeightsNotFoundError
from hear_byols.evaluation.models import parse_models
from hear_byols.framing import Framing
from hear_byols.teachers import CLASSES, TeacherModel, get_scene_embeddings, get_timestamp_embeddings, load_teacher
from hear_byols.teachers.base import in_pieces
from hear_byols.weights.teachers import TEACHERS

NAMES = sorted(CLASSES)


def assert_close(got, wanted):
    """Equal within 1e-5 of what a clip's frames reach."""
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_frames_have_the_size_that_is_announced_and_layers_are_their_columns(name):
    teacher, audio = random_teacher(name), sounds(2, 16000)
    frames, times = get_timestamp_embeddings(audio, teacher)
    assert teacher.sample_rate == 16000
    assert frames.shape == (2, frames.shape[1], teacher.timestamp_embedding_size)
    assert times.shape == frames.shape[:2]
    scenes = get_scene_embeddings(audio, teacher)
    assert torch.equal(scenes, torch.cat([frames.mean(1), frames.amax(1)], 1))
    assert scenes.shape[1] == teacher.scene_embedding_size == TEACHERS[name].embedding_size
    always = {"yamnet": 1024, "speech_embedding": 96}.get(name, 0)
    parts = [random_teacher(name, layers=[layer])(audio)[..., always:] for layer in teacher.layers]
    assert_close(torch.cat([frames[..., :always], *parts], 2), frames)


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_any_length_have_finite_frames_inside_them_alone_and_in_a_batch(name):
    teacher = random_teacher(name)
    for n_samples in (1, 256, 257, 641, 12513, 140001):
        silence_and_noise = torch.cat([torch.zeros(1, n_samples), sounds(2, n_samples)])
        frames, times = get_timestamp_embeddings(silence_and_noise, teacher)
        assert bool(torch.isfinite(frames).all())
        assert frames.shape[1] >= 1
        for i in range(3):
            assert_close(frames[i : i + 1], teacher(silence_and_noise[i : i + 1]))
        assert bool((times[0].diff() == teacher.frame_ms).all())
        assert times[0, -1] - times[0, 0] <= n_samples / 16 + teacher.frame_ms


def test_pieces_are_the_whole():
    """Of a network without memory, pieces are no different; the last one is never short."""

    def embed(piece):
        seen.append(piece.shape[1])
        return piece.unfold(1, 5, 3).mean(2, keepdim=True)

    for n_frames in (1, 4, 5, 9, 12):
        audio, seen = torch.arange(float(3 * n_frames + 2 + 1))[None], []  # a sample too few for another frame
        assert torch.equal(in_pieces(embed, audio, n_frames, hop=3, overlap=2, most=4), embed(audio))
        assert n_frames <= 4 or set(seen[:-1]) == {14}


@pytest.mark.parametrize("name", NAMES)
def test_precision_is_an_option_whatever_the_surrounding_arithmetic(name):
    teacher, audio = random_teacher(name), sounds(2, 16000)
    exact, rough = teacher(audio), random_teacher(name, precision="bfloat16")(audio)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(teacher(audio), exact)
    assert exact.dtype == rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert float((exact - rough).norm() / exact.norm()) < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_agrees():
    audio = sounds(3, 16000)
    for name in NAMES:
        here, there = random_teacher(name)(audio), random_teacher(name).to("cuda")(audio.to("cuda"))
        assert float((here - there.cpu()).abs().max() / here.abs().max()) < 1e-3, name


def test_what_is_refused():
    for name, options, message in (
        ("moonshine", {"layers": [7]}, "layers of moonshine are from 0 to 6"),
        ("mn04", {"layers": []}, "layers of mn04"),
        ("mn04", {"precision": "int8"}, "precision must be one of"),
    ):
        with pytest.raises(OptionError, match=message):
            random_teacher(name, **options)
    for shape in [(16000,), (1, 0), (1, 1, 16000)]:
        with pytest.raises(InputError, match=r"\(n_clips, n_samples\)"):
            random_teacher("mn04")(torch.zeros(shape))


def test_load_model_takes_a_teachers_name(added):
    model, audio = hear_byols.load_model("mn04"), sounds(3, 20000)
    assert isinstance(model, TeacherModel)
    vectors = hear_byols.get_scene_embeddings(audio, model)
    assert torch.equal(vectors, get_scene_embeddings(audio, load_teacher("mn04")))
    assert vectors.shape == (3, model.scene_embedding_size) == (3, 1376)
    assert model.provenance["licence"] == TEACHERS["mn04"].licence
    assert model.provenance["commercial"] == "yes"
    model.encoder(audio.requires_grad_()).sum().backward()
    assert bool((audio.grad != 0).any())


@pytest.mark.parametrize("name", NAMES)
def test_a_timestamp_holds_the_frames_of_its_window(name):
    """One window after the other, the slow and obvious way."""
    teacher = random_teacher(name)
    for n_samples, frame_ms in ((1, 1000), (5000, 30), (40000, 200), (150000, 1000)):
        audio, model = sounds(2, n_samples), TeacherModel(teacher, TEACHERS[name], frame_ms=frame_ms, hop_ms=250)
        vectors, times = model.timestamp_embeddings(audio)
        assert times[0].tolist() == Framing(frame_ms, 250, 16000).timestamps_ms(n_samples)
        frames, centres = get_timestamp_embeddings(audio, teacher)
        for vector, time in zip(vectors.unbind(1), times[0], strict=True):
            inside = (centres[0] - time).abs() <= frame_ms / 2
            if not inside.any():
                inside[(centres[0] - time).abs().argmin()] = True
            wanted = torch.cat([frames[:, inside].mean(1), frames[:, inside].amax(1)], 1)
            torch.testing.assert_close(vector, wanted)


def test_lists_batches_and_batch_sizes_agree(added):
    model, audio = hear_byols.load_model("resemblyzer", hop_ms=200), sounds(5, 30000)
    scenes, (windows, times) = model.scene_embeddings(audio), model.timestamp_embeddings(audio)
    by_two = hear_byols.load_model("resemblyzer", hop_ms=200, batch_size=2)
    torch.testing.assert_close(by_two.scene_embeddings(audio), scenes)
    torch.testing.assert_close(by_two.timestamp_embeddings(audio)[0], windows)
    clips = [audio[0], audio[1, :7000], audio[2].numpy()]
    torch.testing.assert_close(model.scene_embeddings(clips)[[0, 2]], scenes[[0, 2]])
    listed = model.timestamp_embeddings(clips)
    torch.testing.assert_close(listed[0][2], windows[2])
    assert [len(rows) for rows in listed[1]] == [len(times[0]), 3, len(times[0])]


def test_teachers_stand_beside_other_models(added, tmp_path):
    audio = sounds(2, 16000)
    joined = hear_byols.load_model("mn04+random_cnn+swift_f0", layers="multi", precision="float32")
    assert joined.scene_embedding_size == 1376 + 3584 + 382
    first, last = (hear_byols.load_model(name).scene_embeddings(audio) for name in ("mn04", "swift_f0"))
    vectors = joined.scene_embeddings(audio)
    assert torch.equal(vectors[:, :1376], first)
    assert torch.equal(vectors[:, -382:], last)
    assert joined.timestamp_embeddings(audio)[0].shape == (2, 21, joined.timestamp_embedding_size)
    soundfile.write(tmp_path / "a.wav", audio[1].numpy(), 16000, subtype="FLOAT")
    paths = [str(tmp_path / "a.wav"), "-o", str(tmp_path / "out")]
    assert main(["embed", *paths, "-m", "mn04+swift_f0", "--quiet"]) == 0
    [path] = (tmp_path / "out").rglob("*.npz")
    assert np.load(path)["embedding"].shape == (1376 + 382,)


def test_options_of_encoders_and_bad_audio_are_refused(added):
    for options in ({"layers": "multi"}, {"normalization": "clip"}, {"win_length": 400}):
        with pytest.raises(OptionError, match="a teacher takes the options frame_ms, hop_ms, batch_size and precision"):
            hear_byols.load_model("mn04+resemblyzer", **options)
    with pytest.raises(OptionError, match="batch_size must be a positive integer"):
        hear_byols.load_model("mn04", batch_size=0)
    model = hear_byols.load_model("mn04", precision="bfloat16")
    assert model.encoder.precision == "bfloat16"
    with pytest.raises(InputError, match="clip 1 holds 1 samples that are NaN"):
        model.scene_embeddings(torch.tensor([[0.0, 0.1], [0.0, torch.nan]]))
    with pytest.raises(InputError, match="n_clips, n_samples"):
        model.timestamp_embeddings(torch.zeros(16000))


def test_evaluate_knows_teachers(added):
    [model] = parse_models(["both=mn04+resemblyzer"])
    assert [part.weights for part in model.parts] == ["mn04", "resemblyzer"]
    identities = [part.identity() for part in model.parts]
    assert len(set(identities)) == 2
    _, loaded = model.parts[0].load()
    assert isinstance(loaded, TeacherModel)
    with pytest.raises(WeightsNotFoundError, match="hear-byols teachers add"):
        parse_models(["yamnet"])[0].parts[0].identity()


@pytest.mark.parametrize("name", NAMES)
def test_layers_can_be_compared(name):
    model = TeacherModel(random_teacher(name), TEACHERS[name])
    names = list(named_layers(model))
    assert len(names) >= 4
    assert names[0] == "embedding"
    similarity = compare_layers(model, model, sounds(8, 16000).numpy(), batch_size=8)
    assert set(similarity.layers_a) == set(names)
    assert np.nanmin(np.diag(similarity.values)) > 0.99
