"""How models are named, and what tells two of them apart."""

from __future__ import annotations

import sys

import pytest

import hear_byols
from hear_byols.errors import OptionError
from hear_byols.evaluation.models import Model, ModelSpec, parse_models

LOGMEL = "hear_byols.evaluation.adapters.logmel"


def test_the_grammar():
    for text, expected in (
        ("cvt_hybrid", Model("cvt_hybrid", (ModelSpec("hear_byols", "cvt_hybrid"),))),
        ("cvt_hybrid.pth", Model("cvt_hybrid.pth", (ModelSpec("hear_byols", "cvt_hybrid.pth"),))),
        ("logmel", Model("logmel", (ModelSpec(LOGMEL),))),
        ("base line=logmel", Model("base line", (ModelSpec(LOGMEL),))),
        (LOGMEL, Model(LOGMEL, (ModelSpec(LOGMEL),))),
        ("wav2vec2:some/repo", Model("wav2vec2:some/repo", (ModelSpec(LOGMEL[:-6] + "wav2vec2", "some/repo"),))),
        ("json:x.pth", Model("json:x.pth", (ModelSpec("json", "x.pth"),))),
        (
            "both=random_cvt+logmel",
            Model("both", (ModelSpec("hear_byols", "random_cvt"), ModelSpec(LOGMEL))),
        ),
        (
            'CvT, 0.5 s=random_cvt{"hop_ms": 25, "frame_ms": 500}',
            Model("CvT, 0.5 s", (ModelSpec("hear_byols", "random_cvt", '{"frame_ms": 500, "hop_ms": 25}'),)),
        ),
        ("hf://o/r/f.pth@v1#sha256=" + "0" * 64, None),
    ):
        (model,) = parse_models([text])
        assert model == (expected or Model(text, (ModelSpec("hear_byols", text),)))


def test_a_file_with_a_plus_in_its_path_is_one_model(tmp_path):
    path = tmp_path / "a+b.pth"
    path.write_bytes(b"")
    assert parse_models([f"x={path}"])[0].parts == (ModelSpec("hear_byols", str(path)),)


def test_what_is_not_a_model_is_refused():
    for texts, says in (
        (["no_such_model"], "no model 'no_such_model'"),
        (["cvt_hybrid+"], "must be named and different"),
        (["logmel{frame_ms: 500}"], "options of a model are JSON"),
        (["logmel", "logmel"], "two models are called logmel"),
    ):
        with pytest.raises(OptionError, match=says):
            parse_models(texts)


def test_a_module_without_the_hear_api_is_refused():
    with pytest.raises(OptionError, match="has no load_model, get_scene_embeddings"):
        ModelSpec("json").identity()


def test_a_module_that_breaks_on_import_is_refused(tmp_path, monkeypatch):
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
