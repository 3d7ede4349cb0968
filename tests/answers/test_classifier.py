"""Classifiers of clips: learnt from folders, tables and embed folders; kept in files that run nothing."""

import json
import os
import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import soundfile
from made_sounds import CLASSES, MODEL, command, formulas_in, paths_and_labels, rows_of, write_classes
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hear_byols import embed_to_folder, read_embeddings
from hear_byols.answers.classifier import Classifier
from hear_byols.answers.head import fit_head, fit_ridge
from hear_byols.errors import CheckpointError, InputError, OptionError

classify = partial(command, "classify")


@pytest.fixture(scope="module")
def trained(sounds, tmp_path_factory):
    """A classifier's file, by the command line."""
    path = tmp_path_factory.mktemp("trained") / "sounds.hbc"
    assert classify("train", sounds, "-o", path, "-m", MODEL, "-q") == 0
    return path


# --- The head ---


@pytest.mark.parametrize(("n", "size"), [(30, 80), (80, 30)])
def test_ridge_in_closed_form_is_ridge_regression(n, size):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, size)).astype(np.float32), rng.normal(size=(n, 2))
    (head,) = fit_ridge(x, y, [0.1])
    z = ((x - x.mean(0)) / x.std(0)).clip(-10, 10)
    centred = z - z.mean(0)
    slow = np.linalg.solve(centred.T @ centred + 0.1 * size * np.eye(size), centred.T @ (y - y.mean(0)))
    np.testing.assert_allclose(head.scores(x), centred @ slow + y.mean(0), atol=1e-4)
    far, farther = (head.scores(x[:1] + shift) for shift in (100, 1000))
    np.testing.assert_array_equal(far, farther)  # what varies wildly elsewhere does not drown the rest


def test_logistic_in_the_clips_own_space_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    y = np.arange(24) % 3
    x = (rng.normal(size=(24, 60)) + 2 * np.eye(3)[y] @ rng.normal(size=(3, 60))).astype(np.float32)
    fitted = fit_head(x, y, kind="logistic")
    z = (x - x.mean(0)) / (x.std(0) + 1e-6)
    slow = LogisticRegression(C=fitted.strength, max_iter=5000).fit(z, y)
    scores, expected = fitted.head.scores(x), slow.decision_function(z)
    scores, expected = scores - scores.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True)
    ratio = float((scores * expected).sum() / (expected * expected).sum())  # the calibration's temperature
    np.testing.assert_allclose(scores, ratio * expected, atol=2e-2 * np.abs(scores).max())


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_held_out_scores_are_chance_where_labels_say_nothing(kind):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(120, 200)).astype(np.float32), rng.integers(0, 2, 120)
    fitted = fit_head(x, y, kind=kind)
    assert abs((fitted.held_out.argmax(1) == y).mean() - 0.5) < 0.15
    assert (fitted.head.probabilities(x).argmax(1) == y).mean() > 0.9  # what was seen is no measure
    assert fitted.held_out.max(1).mean() < 0.75  # and it is not sure of itself


def test_groups_are_never_on_both_sides():
    """Clips of a group are copies, so that only a split through groups would know their labels."""
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(40, 100)), 3, axis=0).astype(np.float32)
    y = np.repeat(rng.integers(0, 2, 40), 3)
    assert (fit_head(x, y).held_out.argmax(1) == y).mean() > 0.9
    fitted = fit_head(x, y, [str(i // 3) for i in range(120)])
    assert (fitted.held_out.argmax(1) == y).mean() < 0.75
    assert all(len(set(folds)) == 1 for folds in fitted.folds.reshape(40, 3))


def test_probabilities_are_calibrated_on_held_out_clips():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 20)).astype(np.float32)
    x[:, 0] += 2 * y
    held_out = fit_head(x, y).held_out
    assert abs(held_out.max(1).mean() - (held_out.argmax(1) == y).mean()) < 0.04


# --- In Python ---


def test_fit_predict_save_load(sounds, embedded, tmp_path):
    """From paths, samples and vectors alike."""
    paths, labels = paths_and_labels(sounds)
    classifier = Classifier(MODEL, device="cpu").fit(paths, labels)
    assert classifier.classes == CLASSES
    assert classifier.scores["accuracy"] > 0.8
    assert classifier.scores["n_folds"] == 5
    new, truth = paths_and_labels(write_classes(tmp_path / "fresh", n=3, seed=9))
    assert (classifier.predict(new) == np.array(truth)).mean() > 0.8
    classifier.save(tmp_path / "a.hbc")
    assert (tmp_path / "a.hbc").stat().st_mode & 0o044  # others may read it
    loaded = Classifier.load(tmp_path / "a.hbc", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(new), classifier.predict_proba(new))
    assert loaded.scores == classifier.scores
    Classifier.load(tmp_path / "a.hbc", device="cpu").fit(paths, labels).save(tmp_path / "again.hbc")
    again = Classifier.load(tmp_path / "again.hbc", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(new), classifier.predict_proba(new))
    clips = [soundfile.read(path, dtype="float32")[0] for path in new]
    np.testing.assert_allclose(loaded.predict_proba(clips), classifier.predict_proba(new), atol=1e-4)
    content = read_embeddings(embedded)
    by_vectors = Classifier(device="cpu").fit(content, [name.split("/")[0] for name in content.names])
    for given in (paths, content):
        np.testing.assert_allclose(by_vectors.predict_proba(given), loaded.predict_proba(paths), atol=1e-4)


def test_mistakes_are_named(sounds, trained, tmp_path):
    paths, labels = paths_and_labels(sounds)
    new, loaded = Classifier(MODEL), Classifier.load(trained)
    embed_to_folder([sounds], tmp_path / "other", model=MODEL, normalization="original")
    embed_to_folder([sounds], tmp_path / "windows", model=MODEL, hop_ms=200, timestamps=True)
    for call, given, message in (
        (new.fit, (paths, labels[:3]), "15 clips need as many labels"),
        (new.fit, (paths[:5], labels[:5]), "at least two classes"),
        (new.fit, (paths[:6], labels[:6]), r"at least two clips.*'hum' has one"),
        (new.fit, (paths, labels, labels), "at least two groups"),
        (new.predict, (paths,), "learnt nothing"),
        (loaded.save, (tmp_path / "a.pkl",), r"\.hbc"),
        (loaded.predict, (paths[0],), r"\[path\]"),
        (loaded.predict, (read_embeddings(tmp_path / "other"),), "normalization"),
        (loaded.predict, (read_embeddings(tmp_path / "windows"),), "windows"),
        (Classifier.load(trained, model="random_clstm").predict, (paths,), "another model"),
    ):
        with pytest.raises((InputError, OptionError), match=message):
            call(*given)


# --- The file ---


def test_a_file_that_contradicts_itself_is_refused(trained, tmp_path):
    def rewrite(change):
        with safe_open(trained, framework="np") as file:
            header = json.loads(file.metadata()["hear_byols"])
        arrays = load_file(trained)
        change(header, arrays)
        save_file(arrays, tmp_path / "bad.hbc", metadata={"hear_byols": json.dumps(header)})
        return Classifier.load(tmp_path / "bad.hbc")

    rewrite(lambda header, arrays: None)
    for change in (
        lambda header, arrays: header.update(schema="other/9"),
        lambda header, arrays: header.update(classes=["a"]),
        lambda header, arrays: header.update(classes=[1, 2, 3]),
        lambda header, arrays: header.pop("settings"),
        lambda header, arrays: header["settings"].pop("parameters_sha256"),
        lambda header, arrays: header.update(kind="code"),
        lambda header, arrays: arrays.pop("weights"),
        lambda header, arrays: arrays["scale"].fill(0),
        lambda header, arrays: arrays["bias"].fill(np.nan),
    ):
        with pytest.raises(CheckpointError, match=r"bad\.hbc"):
            rewrite(change)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_file_that_was_changed_is_refused_and_nothing_in_it_executed(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = trained.read_bytes()
    changed = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content in (changed, pickle.dumps(Bomb()), b"", b"PK\x03\x04", whole[:500]):
        (tmp_path / "evil.hbc").write_bytes(content)
        message = "its content has changed since it was written" if content == changed else None
        with pytest.raises(CheckpointError, match=message):
            Classifier.load(tmp_path / "evil.hbc")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(InputError, match="no such file"):
        Classifier.load(tmp_path / "gone.hbc")


# --- By command ---


def test_train_predict_and_evaluate(trained, embedded, tmp_path, capsys):
    rows = rows_of(trained.with_suffix(".report") / "clips.csv")
    probabilities = [float(row["probability_of_label"]) for row in rows]
    assert len(rows) == 15
    assert probabilities == sorted(probabilities)  # the worst first
    assert (trained.with_suffix(".report") / "confusion.png").read_bytes().startswith(b"\x89PNG")
    fresh = write_classes(tmp_path / "fresh", n=2, seed=7)
    (fresh / "hum" / "broken.wav").write_bytes(b"no sound")
    assert classify("predict", trained, fresh, "-o", tmp_path / "out.csv") == 1
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == 7  # every file is accounted for
    assert [row["path"] for row in rows if row["error"]] == ["hum/broken.wav"]
    right = [row["label"] == row["path"].split("/")[0] for row in rows if row["label"]]
    assert np.mean(right) > 0.6
    assert all(abs(sum(float(row[label]) for label in CLASSES) - 1) < 1e-3 for row in rows if row["label"])
    assert "broken.wav" in capsys.readouterr().err
    report = tmp_path / "report"
    assert classify("evaluate", trained, fresh, "-o", report) == 1
    assert "accuracy" in capsys.readouterr().out
    confusion = [[int(row[label]) for label in CLASSES] for row in rows_of(report / "confusion.csv")]
    assert np.sum(confusion) == 6
    assert np.trace(confusion) == sum(right)
    assert [row["path"] for row in rows_of(report / "failures.csv")] == ["hum/broken.wav"]
    assert command("embed", fresh, "-o", tmp_path / "embedded", "-m", MODEL, "-q") == 1
    assert classify("evaluate", trained, tmp_path / "embedded", "-o", tmp_path / "same") == 1
    assert rows_of(tmp_path / "same" / "failures.csv") == rows_of(report / "failures.csv")
    # The same of vectors that are there.
    assert classify("train", embedded, "-o", tmp_path / "e.hbc", "-q") == 0
    one, other = (Classifier.load(path).artefact.head.weights for path in (trained, tmp_path / "e.hbc"))
    np.testing.assert_allclose(other, one, atol=1e-4)
    assert classify("predict", trained, embedded, "-o", tmp_path / "out.csv", "-q") == 0
    assert [row["label"] for row in rows_of(tmp_path / "out.csv")] == [each for each in CLASSES for _ in range(5)]


def test_a_table_labels_files_and_groups_them(sounds, tmp_path, capsys):
    rows = [(os.path.relpath(path, tmp_path), path.parent.name) for path in sorted(sounds.rglob("*.wav"))]
    lines = [f"{path},{label},{i % 5}" for i, (path, label) in enumerate(rows)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label,group", *lines, "gone.wav,hum,9", ""]))
    assert classify("train", table, "-o", tmp_path / "a.hbc", "-m", MODEL) == 1
    captured = capsys.readouterr()
    assert "gone.wav" in captured.err
    assert "accuracy" in captured.out
    folds = {row["path"]: row["fold"] for row in rows_of(tmp_path / "a.report" / "clips.csv")}
    assert all(len({folds[path] for path, _ in rows[group::5]}) == 1 for group in range(5))
    assert Classifier.load(tmp_path / "a.hbc").artefact.training["grouped"]


def test_hostile_names_and_labels_stay_text(sounds, tmp_path, capsys):
    labels = ('=HYPERLINK("x")', "<img src=x>", "@$a$b")
    evil = tmp_path / "in"
    for label, new in zip(CLASSES, labels, strict=True):
        shutil.copytree(sounds / label, evil / new)
    (evil / labels[1] / "hum0.wav").rename(evil / labels[1] / "-1+1|calc.wav")
    (evil / labels[1] / "hum1.wav").rename(evil / labels[1] / "a\nb\x1b[31m.wav")
    assert classify("train", evil, "-o", tmp_path / "a.hbc", "-m", MODEL) == 0
    assert classify("predict", tmp_path / "a.hbc", evil, "-o", tmp_path / "o.csv") == 0
    for name in ("a.report/clips.csv", "a.report/confusion.csv", "o.csv"):
        assert not formulas_in(tmp_path / name)
    assert "\x1b" not in "".join(capsys.readouterr())
    assert set(Classifier.load(tmp_path / "a.hbc").classes) == set(labels)
    # What was written can be read as labels.
    assert classify("train", evil, "-l", tmp_path / "o.csv", "-o", tmp_path / "b.hbc", "-m", MODEL, "-q") == 0
    assert set(Classifier.load(tmp_path / "b.hbc").classes) <= set(labels)


def test_faults_end_in_one_line(sounds, tmp_path, capsys):
    for arguments, message in (
        (["train", sounds / "hum", "-o", tmp_path / "a.hbc"], "no labelled audio"),
        (["train", tmp_path / "gone", "-o", tmp_path / "a.hbc"], "cannot be read"),
        (["train", sounds, "-o", tmp_path / "a.pkl"], "ends in .hbc"),
        (["predict", tmp_path / "gone.hbc", sounds, "-o", "x.csv"], "no such file"),
    ):
        assert classify(*arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
