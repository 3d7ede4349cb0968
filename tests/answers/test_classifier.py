"""Classifiers of clips: learnt from folders, tables and embed folders; kept in files that run nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil

import numpy as np
import pytest
import soundfile
from made_sounds import CLASSES, MODEL, write_classes
from safetensors.numpy import load_file, save_file

from hear_byols import embed_to_folder, read_embeddings
from hear_byols.answers.classifier import Classifier
from hear_byols.answers.head import Head, fit_head, fit_ridge, softmax
from hear_byols.cli.main import main
from hear_byols.errors import CheckpointError, InputError, OptionError


def paths_and_labels(folder):
    paths = sorted(folder.rglob("*.wav"))
    return paths, [path.parent.name for path in paths]


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(sounds, tmp_path_factory):
    """A classifier's file, by the command line."""
    path = tmp_path_factory.mktemp("trained") / "sounds.hbc"
    assert main(["classify", "train", str(sounds), "-o", str(path), "-m", MODEL, "-q"]) == 0
    return path


@pytest.fixture(scope="module")
def embedded(sounds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded")
    embed_to_folder([sounds], folder, model=MODEL)
    return folder


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
    groups = [str(i // 3) for i in range(120)]
    assert (fit_head(x, y).held_out.argmax(1) == y).mean() > 0.9
    fitted = fit_head(x, y, groups)
    assert (fitted.held_out.argmax(1) == y).mean() < 0.75
    assert all(len(set(fitted.folds[3 * i : 3 * i + 3])) == 1 for i in range(40))


def test_probabilities_are_calibrated_on_held_out_clips():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 20)).astype(np.float32)
    x[:, 0] += 2 * y
    held_out = fit_head(x, y).held_out
    assert abs(held_out.max(1).mean() - (held_out.argmax(1) == y).mean()) < 0.04


# --- In Python ---


def test_fit_predict_save_load(sounds, tmp_path):
    paths, labels = paths_and_labels(sounds)
    classifier = Classifier(MODEL, device="cpu").fit(paths, labels)
    assert classifier.classes == CLASSES
    assert classifier.scores["accuracy"] > 0.8
    assert classifier.scores["n_folds"] == 5
    fresh = write_classes(tmp_path / "fresh", n=3, seed=9)
    new, truth = paths_and_labels(fresh)
    assert (classifier.predict(new) == np.array(truth)).mean() > 0.8
    classifier.save(tmp_path / "a.hbc")
    loaded = Classifier.load(tmp_path / "a.hbc", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(new), classifier.predict_proba(new))
    assert loaded.scores == classifier.scores
    clips = [soundfile.read(path, dtype="float32")[0] for path in new]
    np.testing.assert_allclose(loaded.predict_proba(clips), classifier.predict_proba(new), atol=1e-4)
    assert (tmp_path / "a.hbc").stat().st_mode & 0o044  # others may read it


def test_an_embed_folder_serves_as_clips(sounds, embedded, trained):
    content = read_embeddings(embedded)
    labels = [name.split("/")[0] for name in content.names]
    classifier = Classifier(device="cpu").fit(content, labels)
    by_audio = Classifier.load(trained, device="cpu")
    paths = [sounds / name for name in content.names]
    np.testing.assert_allclose(classifier.predict_proba(paths), by_audio.predict_proba(content), atol=1e-4)


def test_vectors_of_another_setting_are_refused(sounds, trained, tmp_path):
    embed_to_folder([sounds], tmp_path / "other", model=MODEL, normalization="original")
    with pytest.raises(OptionError, match="normalization"):
        Classifier.load(trained).predict(read_embeddings(tmp_path / "other"))
    with pytest.raises(OptionError, match="another model"):
        Classifier.load(trained, model="random_clstm").predict(paths_and_labels(sounds)[0])
    embed_to_folder([sounds], tmp_path / "windows", model=MODEL, timestamps=True, hop_ms=200)
    with pytest.raises(OptionError, match="windows"):
        Classifier.load(trained).predict(read_embeddings(tmp_path / "windows"))


def test_mistakes_are_named(sounds, tmp_path):
    paths, labels = paths_and_labels(sounds)
    with pytest.raises(OptionError, match="learnt nothing"):
        Classifier(MODEL).predict(paths)
    with pytest.raises(InputError, match="15 clips need as many labels"):
        Classifier(MODEL).fit(paths, labels[:3])
    with pytest.raises(OptionError, match="at least two classes"):
        Classifier(MODEL).fit(paths[:5], labels[:5])
    with pytest.raises(OptionError, match=r"at least two clips.*'hum' has one"):
        Classifier(MODEL).fit(paths[:6], labels[:6])
    with pytest.raises(OptionError, match="at least two groups"):
        Classifier(MODEL).fit(paths, labels, labels)
    with pytest.raises(OptionError, match=r"\.hbc"):
        Classifier(MODEL).fit(paths, labels).save(tmp_path / "a.pkl")
    with pytest.raises(InputError, match=r"\[path\]"):
        Classifier(MODEL).fit(paths, labels).predict(paths[0])


# --- The file ---


def changed(path, target, change_header=None, change_arrays=None):
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["hear_byols"])
    arrays = load_file(path)
    (change_header or (lambda header: None))(header)
    (change_arrays or (lambda arrays: None))(arrays)
    save_file(arrays, target, metadata={"hear_byols": json.dumps(header)})
    return target


@pytest.mark.parametrize(
    ("header", "arrays"),
    [
        (lambda h: h.update(schema="other/9"), None),
        (lambda h: h.update(classes=["a"]), None),
        (lambda h: h.update(classes=[1, 2, 3]), None),
        (lambda h: h.pop("settings"), None),
        (lambda h: h["settings"].pop("parameters_sha256"), None),
        (lambda h: h.update(kind="code"), None),
        (None, lambda a: a.pop("weights")),
        (None, lambda a: a["scale"].fill(0)),
        (None, lambda a: a["bias"].fill(np.nan)),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(trained, tmp_path, header, arrays):
    Classifier.load(changed(trained, tmp_path / "same.hbc"))
    with pytest.raises(CheckpointError, match=r"bad\.hbc"):
        Classifier.load(changed(trained, tmp_path / "bad.hbc", header, arrays))


def test_a_file_whose_weights_changed_is_refused(trained, tmp_path):
    content = bytearray(trained.read_bytes())
    content[-8] ^= 1
    (tmp_path / "bad.hbc").write_bytes(content)
    with pytest.raises(CheckpointError, match="its content has changed since it was written"):
        Classifier.load(tmp_path / "bad.hbc")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_in_a_file_is_executed(trained, tmp_path, monkeypatch):
    import pickle

    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Bomb()), b"", b"PK\x03\x04", trained.read_bytes()[:500]):
        (tmp_path / "evil.hbc").write_bytes(content)
        with pytest.raises(CheckpointError):
            Classifier.load(tmp_path / "evil.hbc")
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(InputError, match="no such file"):
        Classifier.load(tmp_path / "gone.hbc")


# --- By command ---


def test_train_predict_and_evaluate(sounds, trained, tmp_path, capsys):
    fresh = write_classes(tmp_path / "fresh", n=2, seed=7)
    (fresh / "hum" / "broken.wav").write_bytes(b"no sound")
    output = tmp_path / "out.csv"
    assert main(["classify", "predict", str(trained), str(fresh), "-o", str(output)]) == 1
    rows = rows_of(output)
    assert len(rows) == 7  # every file is accounted for
    assert [row["path"] for row in rows if row["error"]] == ["hum/broken.wav"]
    right = [row["label"] == row["path"].split("/")[0] for row in rows if row["label"]]
    assert np.mean(right) > 0.6
    assert all(abs(sum(float(row[label]) for label in CLASSES) - 1) < 1e-3 for row in rows if row["label"])
    assert "broken.wav" in capsys.readouterr().err
    report = tmp_path / "report"
    assert main(["classify", "evaluate", str(trained), str(fresh), "-o", str(report)]) == 1
    assert "accuracy" in capsys.readouterr().out
    confusion = [[int(row[label]) for label in CLASSES] for row in rows_of(report / "confusion.csv")]
    assert np.sum(confusion) == 6
    assert np.trace(confusion) == sum(right)
    assert [row["path"] for row in rows_of(report / "failures.csv")] == ["hum/broken.wav"]


def test_the_report_names_the_worst_clips(sounds, trained):
    report = trained.with_suffix(".report")
    rows = rows_of(report / "clips.csv")
    assert len(rows) == 15
    probabilities = [float(row["probability_of_label"]) for row in rows]
    assert probabilities == sorted(probabilities)
    assert (report / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_labels_files_and_groups_them(sounds, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    paths, labels = paths_and_labels(sounds)
    rows = [
        f"{os.path.relpath(path, tmp_path)},{label},{i % 5}"
        for i, (path, label) in enumerate(zip(paths, labels, strict=True))
    ]
    table.write_text("\n".join(["path,label,group", *rows, "gone.wav,hum,9", ""]))
    assert main(["classify", "train", str(table), "-o", str(tmp_path / "a.hbc"), "-m", MODEL]) == 1
    captured = capsys.readouterr()
    assert "gone.wav" in captured.err
    assert "accuracy" in captured.out
    folds = {(row["path"], row["fold"]) for row in rows_of(tmp_path / "a.report" / "clips.csv")}
    by_group = [{fold for path, fold in folds if path in {row.split(",")[0] for row in rows[g::5]}} for g in range(5)]
    assert all(len(group) == 1 for group in by_group)
    assert Classifier.load(tmp_path / "a.hbc").artefact.training["grouped"]


def test_train_and_predict_read_embed_folders(embedded, trained, tmp_path):
    assert main(["classify", "train", str(embedded), "-o", str(tmp_path / "e.hbc"), "-q"]) == 0
    one, other = Classifier.load(trained), Classifier.load(tmp_path / "e.hbc")
    np.testing.assert_allclose(other.artefact.head.weights, one.artefact.head.weights, atol=1e-4)
    assert main(["classify", "predict", str(trained), str(embedded), "-o", str(tmp_path / "out.csv"), "-q"]) == 0
    assert [row["label"] for row in rows_of(tmp_path / "out.csv")] == [each for each in CLASSES for _ in range(5)]


def test_hostile_names_and_labels_stay_text(sounds, tmp_path, capsys):
    evil = tmp_path / "in"
    for label, new in zip(CLASSES, ('=HYPERLINK("x")', "<img src=x>", "@$a$b"), strict=True):
        shutil.copytree(sounds / label, evil / new)
    victim = evil / "<img src=x>"
    (victim / "hum0.wav").rename(victim / "-1+1|calc.wav")
    (victim / "hum1.wav").rename(victim / "a\nb\x1b[31m.wav")
    assert main(["classify", "train", str(evil), "-o", str(tmp_path / "a.hbc"), "-m", MODEL]) == 0
    assert main(["classify", "predict", str(tmp_path / "a.hbc"), str(evil), "-o", str(tmp_path / "o.csv")]) == 0
    names = ("a.report/clips.csv", "a.report/confusion.csv", "o.csv")
    for name in names:
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert "\x1b" not in "".join(capsys.readouterr())
    assert set(Classifier.load(tmp_path / "a.hbc").classes) == {'=HYPERLINK("x")', "<img src=x>", "@$a$b"}
    shutil.copy(tmp_path / "o.csv", tmp_path / "again.csv")  # what was written can be read as labels
    code = [
        "classify",
        "train",
        str(evil),
        "-l",
        str(tmp_path / "again.csv"),
        "-o",
        str(tmp_path / "b.hbc"),
        "-m",
        MODEL,
    ]
    assert main([*code, "-q"]) == 0
    assert set(Classifier.load(tmp_path / "b.hbc").classes) <= {'=HYPERLINK("x")', "<img src=x>", "@$a$b"}


def test_faults_end_in_one_line(sounds, tmp_path, capsys):
    for arguments, message in (
        (["train", str(sounds / "hum"), "-o", str(tmp_path / "a.hbc")], "no labelled audio"),
        (["train", str(tmp_path / "gone"), "-o", str(tmp_path / "a.hbc")], "cannot be read"),
        (["train", str(sounds), "-o", str(tmp_path / "a.pkl")], "ends in .hbc"),
        (["predict", str(tmp_path / "gone.hbc"), str(sounds), "-o", "x.csv"], "no such file"),
    ):
        assert main(["classify", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_head_keeps_to_its_arithmetic():
    head = Head(np.zeros(2, np.float32), np.ones(2, np.float32), np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    np.testing.assert_allclose(head.probabilities(np.array([[1.0, 0.0]])), softmax(np.array([[1.0, 0.0]])))
    np.testing.assert_allclose(head.scores(np.array([[99.0, -99.0]])), [[10, -10]])
