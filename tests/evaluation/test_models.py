"""How models are named, and what tells two of them apart."""

import sys

import pytest

import hear_byols
from hear_byols.errors import OptionError
from hear_byols.evaluation.models import Model, ModelSpec, parse_models

LOGMEL = "hear_byols.evaluation.adapters.logmel"
WAV2VEC2 = "hear_byols.evaluation.adapters.wav2vec2"
PINNED = "hf://o/r/f.pth@v1#sha256=" + "0" * 64


def test_the_grammar(tmp_path):
    (tmp_path / "a+b.pth").touch()  # a plus in a path separates nothing
    for text, label, *parts in (
        ("cvt_hybrid", "cvt_hybrid", ModelSpec("hear_byols", "cvt_hybrid")),
        ("cvt_hybrid.pth", "cvt_hybrid.pth", ModelSpec("hear_byols", "cvt_hybrid.pth")),
        ("logmel", "logmel", ModelSpec(LOGMEL)),
        ("base line=logmel", "base line", ModelSpec(LOGMEL)),
        (LOGMEL, LOGMEL, ModelSpec(LOGMEL)),
        ("wav2vec2:some/repo", "wav2vec2:some/repo", ModelSpec(WAV2VEC2, "some/repo")),
        ("json:x.pth", "json:x.pth", ModelSpec("json", "x.pth")),
        ("both=random_cvt+logmel", "both", ModelSpec("hear_byols", "random_cvt"), ModelSpec(LOGMEL)),
        (
            'CvT, 0.5 s=random_cvt{"hop_ms": 25, "frame_ms": 500}',
            "CvT, 0.5 s",
            ModelSpec("hear_byols", "random_cvt", '{"frame_ms": 500, "hop_ms": 25}'),
        ),
        (PINNED, PINNED, ModelSpec("hear_byols", PINNED)),
        (f"x={tmp_path}/a+b.pth", "x", ModelSpec("hear_byols", f"{tmp_path}/a+b.pth")),
    ):
        assert parse_models([text]) == [Model(label, tuple(parts))]


def test_what_is_not_a_model_is_refused(tmp_path, monkeypatch):
    for texts, says in (
        (["no_such_model"], "no model 'no_such_model'"),
        (["cvt_hybrid+"], "must be named and different"),
        (["logmel{frame_ms: 500}"], "options of a model are JSON"),
        (["logmel", "logmel"], "two models are called logmel"),
    ):
        with pytest.raises(OptionError, match=says):
            parse_models(texts)
    with pytest.raises(OptionError, match="has no load_model, get_scene_embeddings"):
        ModelSpec("json").identity()
    (tmp_path / "breaks_on_import.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(OptionError, match=r"cannot be imported \(ZeroDivisionError"):
        ModelSpec("breaks_on_import").identity()


def test_identity_follows_weights_options_and_source(tmp_path, monkeypatch):
    path = tmp_path / "model.pth"
    model = ModelSpec("hear_byols", str(path))
    identities = set()
    for content in (b"one", b"two"):
        path.write_bytes(content)
        identities.add(model.identity())
    identities.add(ModelSpec("hear_byols", str(path), '{"frame_ms": 500}').identity())
    assert len(identities) == 3
    assert model.identity() in identities
    api = "load_model = get_scene_embeddings = get_timestamp_embeddings = print\n"
    monkeypatch.syspath_prepend(tmp_path)
    for n in range(2):
        (tmp_path / "changing_module.py").write_text(api + "#" * n)
        sys.modules.pop("changing_module", None)
        identities.add(ModelSpec("changing_module").identity())
    assert len(identities) == 5


def test_the_paper_standardizes_opensmile_and_concatenations_only():
    models = parse_models(["opensmile", "cvt_hybrid+logmel", "hear_byols.variants.cvt_hybrid_opensmile", "cvt_hybrid"])
    assert [model.wants_standardizing for model in models] == [True, True, True, False]


def test_a_part_loads(one_thread):
    module, model = ModelSpec("hear_byols", "random_cnn", '{"hop_ms": 25}').load()
    assert module is hear_byols
    assert float(model.framing.hop_ms) == 25
