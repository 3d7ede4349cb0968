"""Several teachers: each has its head, its scale and its weight; stretches of a crop are taught too."""

import numpy as np
import pytest
import torch
from pretraining import TEACHER_SIZES, steps

import hear_byols
from hear_byols.frontend import LOG_OFFSET
from hear_byols.training.config import PretrainConfig
from hear_byols.training.export import export_encoder
from hear_byols.training.heads import TeacherScale, component_head, make_head
from hear_byols.training.lesson_stream import Lessons
from hear_byols.training.lessons import SHIFT, LessonFolder, LessonPlan, Teachers
from hear_byols.training.loop import load_newest, save_state
from hear_byols.training.run import Hardware, make_fabric
from hear_byols.training.teaching import TeacherTrainer, equalized, teacher_losses
from hear_byols.training.trainer import initial_encoder

SMALL = {"encoder": "cnn", "targets": "mn04+swift_f0", "crop_frames": 32, "batch_size": 16, "head_hidden": 32}
SMALL |= {"beta": 0.0, "dropout": 0.0, "log_steps": 1}


@pytest.fixture(scope="module")
def heard(two_teachers, pool, tmp_path_factory):
    """One shard of lessons by two small teachers."""
    plan = LessonPlan(tuple(TEACHER_SIZES), n_samples=31 * 160 + SHIFT)
    folder = LessonFolder(tmp_path_factory.mktemp("lessons"), plan, pool)
    folder.make(0, Teachers(plan, pool))
    return Lessons(folder, 1, workers=0)


def make(heard, total_steps=40, **options):
    config = PretrainConfig(**{**SMALL, **options})
    return TeacherTrainer(config, heard, TEACHER_SIZES, make_fabric(config, Hardware("cpu")), total_steps)


@pytest.mark.parametrize("heads_on", ["last", "multi"])
def test_every_teacher_is_learnt_from(heard, heads_on):
    trainer = make(heard, heads_on=heads_on, learning_rate=1e-3, part_weight=0.3)
    assert trainer.network.heads[1].in_features == {"last": 2048, "multi": 3584}[heads_on]
    values = dict(zip(trainer.values, steps(trainer, 25).T, strict=True))
    for name in TEACHER_SIZES:
        losses = values[f"loss_{name}"]
        assert losses[-5:].mean() < 0.7 * losses[:5].mean()
    assert values["spread"][-1] > 0.05


def test_loss_is_the_weighted_sum_over_teachers(heard):
    trainer = make(heard, alpha=2.0, teacher_weights=(0.5, 3.0))
    values = dict(zip(trainer.values, trainer.step().tolist(), strict=True))
    assert values["loss"] == pytest.approx(2 * (0.5 * values["loss_mn04"] + 3 * values["loss_swift_f0"]), rel=1e-5)
    assert np.isnan(values["loss_self_supervised"])


def test_a_small_teacher_weighs_as_much_as_a_large_one_and_cosine_asks_for_the_direction_alone():
    answers, features = torch.zeros(4, 10), torch.cat([torch.ones(4, 8), 2 * torch.ones(4, 2)], 1)
    assert teacher_losses(answers, features, TEACHER_SIZES).tolist() == [1, 4]
    assert teacher_losses(3 * features, features, TEACHER_SIZES, "cosine").tolist() == pytest.approx([0, 0], abs=1e-6)
    assert teacher_losses(-features, features, TEACHER_SIZES, "cosine").tolist() == pytest.approx([2, 2])


def test_components_have_the_square_root_of_their_variance():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(20000, 3, generator=generator) * torch.tensor([4.0, 2.0, 1.0])
    mixing, _ = torch.linalg.qr(torch.randn(8, 3, generator=generator))
    features = torch.cat([hidden @ mixing.T, torch.randn(20000, 2, generator=generator)], 1)
    scale = TeacherScale.fit(features, (8, 2), 3)
    z = ((features - features.mean(0)) / features.std(0))[:, :8]
    variances = torch.linalg.svdvals(z)[:3].square() / len(z)
    learnt = scale(features)
    assert learnt.shape == (20000, 3 + 2)
    expected = variances.sqrt() / variances.sqrt().mean()
    torch.testing.assert_close(learnt.var(0)[:3], expected, rtol=0.02, atol=0.01)
    assert torch.corrcoef(learnt.T)[:3, :3].fill_diagonal_(0).abs().max() < 0.03


def test_self_supervised_loss_joins_in_every_nth_step(heard):
    trainer = make(heard, beta=1.0, self_supervised_every=3)
    place = trainer.values.index("loss_self_supervised")
    before = {k: v.clone() for k, v in trainer.network.byol.target.state_dict().items()}
    assert [bool(values[place].isfinite()) for values in steps(trainer, 6)] == [True, False, False, True, False, False]
    after = trainer.network.byol.target.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_features_do_not_follow_the_students_level(heard):
    loud, quiet = (make(heard, student_db=(level, level)) for level in (6.0, -24.0))
    assert loud.mean > quiet.mean + 2  # 30 dB are 6.9 in nepers of power, the floor takes some
    torch.testing.assert_close(loud._scale.mean, quiet._scale.mean)


def test_equalizer_is_a_smooth_curve_within_its_bounds():
    log_mels = torch.randn(50, 64, 10, generator=torch.Generator().manual_seed(0))
    curves = equalized(log_mels, 8.0, torch.Generator().manual_seed(1)) - log_mels
    torch.testing.assert_close(curves, curves[..., :1].expand_as(curves), rtol=0, atol=1e-3)  # one curve for all frames
    decibels = curves[..., 0] * 10 / np.log(10)
    assert 6 < decibels.max() < 8.01
    assert -8.01 < decibels.min() < -6
    assert decibels.diff(dim=1).abs().max() < 16 / (63 / 5) + 0.01
    silence = torch.full((1, 64, 10), float(np.log(LOG_OFFSET)))
    torch.testing.assert_close(equalized(silence, 8.0, torch.Generator().manual_seed(1)), silence)


def test_components_keep_what_the_answers_tell_apart_and_do_not_hear_what_was_never_active():
    torch.manual_seed(0)
    embeddings, head = torch.randn(300, 12) @ torch.randn(12, 12), make_head(12, 5)
    embeddings[:, 3] = 0
    head.train()(embeddings)
    with torch.no_grad():
        answers, linear = head.eval()(embeddings), component_head(head, embeddings, 9)
        components, two = linear(embeddings), component_head(head, embeddings, 2)(embeddings)
    assert components.shape == (300, 5)  # there are no more answers
    torch.testing.assert_close(torch.pdist(components), torch.pdist(answers), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(components.mean(0), torch.zeros(5), rtol=0, atol=1e-5)
    assert (components.var(0).diff() < 0).all()
    torch.testing.assert_close(torch.corrcoef(components.T), torch.eye(5), rtol=0, atol=1e-4)
    torch.testing.assert_close(two, components[:, :2])
    assert linear.weight.any(0).tolist() == [i != 3 for i in range(12)]


def test_a_checkpoint_holds_the_heads_components(heard, tmp_path):
    trainer = make(heard, layers="heads", head_components=4, learning_rate=1e-3)
    steps(trainer, 3)
    path = tmp_path / "encoder.pth"
    export_encoder(trainer, path, {"name": "taught"})
    heads, last = (hear_byols.load_model(path, layers=layers) for layers in (None, "last"))
    assert (heads.scene_embedding_size, last.scene_embedding_size) == (4, 2048)
    assert heads.config.encoder.layers == "heads"
    audio = torch.rand(2, 8000)
    torch.testing.assert_close(heads.scene_embeddings(audio), last.encoder.head(last.scene_embeddings(audio)))
    further = initial_encoder("cnn", str(path))
    assert torch.equal(further.state_dict()["fc2.weight"], last.encoder.fc2.weight)
    assert further.head is None
    assert trainer.step()[0] == steps(make(heard, learning_rate=1e-3), 4)[3, 0]  # the export has changed nothing


@pytest.mark.parametrize(
    "options",
    [
        {"part_weight": 0.5, "teacher_components": 2, "teacher_loss": "cosine", "normalization": "halfway"},
        {"beta": 1.0, "dropout": 0.3, "equalizer": 6.0},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(heard, tmp_path, options):
    whole, first, second = (make(heard, schedule="cosine", **options) for _ in range(3))
    begun = steps(first, 2)
    save_state(first, tmp_path)
    assert load_newest(second, tmp_path)
    torch.testing.assert_close(torch.cat([begun, steps(second, 2)]), steps(whole, 4), rtol=0, atol=0, equal_nan=True)


def test_parts_belong_to_their_columns(heard):
    trainer, drawn = make(heard, part_weight=1.0), set()
    for step in range(40):
        trainer.seed(step)
        columns, parts = trainer._draw_part(32)  # of 4 columns and 4 parts
        assert (columns.start, columns.stop) == (parts.start, parts.stop) == (parts.start, parts.start + 1)
        drawn.add(columns.start)
    assert drawn == {0, 1, 2, 3}
