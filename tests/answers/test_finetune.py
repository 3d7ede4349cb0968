"""Fine-tuned classifiers: no worse than the frozen encoder without saying so, whole in one file."""

import numpy as np
import pytest
import soundfile
from made_sounds import MODEL, RATE, command, paths_and_labels, write_classes

from hear_byols import embed_files, load_model
from hear_byols.answers import finetune
from hear_byols.answers.classifier import Classifier
from hear_byols.answers.detector import Detector
from hear_byols.answers.finetune import fine_tune
from hear_byols.answers.head import cooled, fit_head, refit
from hear_byols.answers.label_files import write_events
from hear_byols.errors import CheckpointError, OptionError
from hear_byols.evaluation.tasks import Event

pytestmark = pytest.mark.usefixtures("one_thread")


def classify(*arguments: object) -> int:
    return command("classify", *arguments, "--device", "cpu")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The file of a classifier whose frozen head knew nothing, and clips that it never saw."""
    home = tmp_path_factory.mktemp("tuned")
    write_classes(home / "in", n=8)
    write_classes(home / "new", n=4, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hear_byols.answers.classifier.refit", lambda *known: cooled(refit(*known), np.inf))
        assert classify("train", home / "in", "-o", home / "a.hbc", "-m", MODEL, "--fine-tune", 6) == 0
    return home / "a.hbc", paths_and_labels(home / "new")


def test_an_encoder_that_learns_better_is_kept_and_lies_in_the_file(tuned, tmp_path, capsys):
    path, (clips, labels) = tuned
    classifier = Classifier.load(path, device="cpu")
    about = classifier.artefact.training["fine_tuned"]
    assert about["kept"]
    assert about["accuracy"] > about["accuracy_frozen"]
    assert classifier.scores["n_clips"] == about["n_held_out"] >= 3
    assert classifier.scores["accuracy"] == about["accuracy"]
    right = (classifier.predict(clips) == np.array(labels)).mean()
    assert right > 0.7
    assert classify("evaluate", path, path.parent / "new") == 0
    assert f"accuracy {right:.1%}" in capsys.readouterr().out
    assert classify("predict", path, clips[0], "-o", tmp_path / "out.csv", "-q") == 0
    # Vectors of the frozen encoder, and a damaged file, are refused.
    assert command("embed", path.parent / "new", "-o", tmp_path / "out", "-m", MODEL, "-q") == 0
    assert classify("predict", path, tmp_path / "out", "-o", tmp_path / "out.csv", "-q") == 2
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 64
    (tmp_path / "bad.hbc").write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Classifier.load(tmp_path / "bad.hbc").predict(clips)


def test_fitted_again_it_keeps_the_encoder(tuned, tmp_path):
    path, (clips, labels) = tuned
    Classifier.load(path, device="cpu").fit(clips, labels).save(tmp_path / "again.hbc")
    before, again = (Classifier.load(each, device="cpu") for each in (path, tmp_path / "again.hbc"))
    assert again.artefact.encoder == before.artefact.encoder
    assert again.predict(clips).tolist() == labels


def test_a_detector_takes_the_fine_tuned_encoder_along(tuned, tmp_path):
    path, (clips, _) = tuned
    (tmp_path / "audio").mkdir()
    for i in range(3):
        sounds = np.concatenate([soundfile.read(clips[place])[0] for place in (i, 4 + i)])  # of 0.6 s each
        soundfile.write(tmp_path / "audio" / f"{i}.wav", sounds, RATE)
        events = [Event("clicks", 0, 600), Event("hum", 600, 1200)]
        write_events(tmp_path / "labels" / f"{i}.csv", "csv", events, [1.0] * 2, 4.0)
    options = ["--events", tmp_path / "labels", "--frame-ms", 300, "--hop-ms", 100, "-q"]
    assert classify("train", tmp_path / "audio", "-o", tmp_path / "events.hbc", "-m", path, *options) == 0
    wanted = Classifier.load(path, device="cpu").model.encoder.state_dict()
    path.rename(path.with_suffix(".moved"))
    try:
        detector = Detector.load(tmp_path / "events.hbc", device="cpu")
        assert detector.detect(tmp_path / "audio" / "0.wav").seconds > 1
    finally:
        path.with_suffix(".moved").rename(path)
    for key, value in detector.model.encoder.state_dict().items():
        np.testing.assert_array_equal(value, wanted[key])


def test_an_encoder_that_learns_nothing_good_is_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(finetune, "LEARNING_RATE", 30.0)
    write_classes(tmp_path / "in", n=5)
    for name, options in (("frozen.hbc", ["-q"]), ("tuned.hbc", ["--fine-tune", 1])):
        assert classify("train", tmp_path / "in", "-m", MODEL, "-o", tmp_path / name, *options) == 0
    assert "the frozen encoder is kept" in capsys.readouterr().out
    frozen, other = (Classifier.load(tmp_path / name) for name in ("frozen.hbc", "tuned.hbc"))
    assert not other.artefact.training["fine_tuned"]["kept"]
    assert not other.artefact.encoder
    np.testing.assert_array_equal(frozen.artefact.head.weights, other.artefact.head.weights)
    assert other.scores == frozen.scores


def test_training_begins_where_the_frozen_head_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "LEARNING_RATE", 0.0)
    paths, labels = paths_and_labels(write_classes(tmp_path, n=4))
    model, targets = load_model(MODEL), np.unique(labels, return_inverse=True)[1]
    vectors = embed_files(paths, model)
    head = fit_head(vectors, targets).head
    clips = [soundfile.read(path, dtype="float32")[0] for path in paths]
    tuned, same = fine_tune(model, head, clips, targets, n_epochs=1)
    np.testing.assert_allclose(same.scores(tuned.scene_embeddings(clips).numpy()), head.scores(vectors), atol=1e-4)
    assert tuned is not model


def test_what_cannot_be_fine_tuned_is_named(tmp_path):
    known, frozen = paths_and_labels(write_classes(tmp_path, n=2)), tmp_path / "frozen.hbc"
    Classifier(MODEL, device="cpu").fit(*known).save(frozen)
    for model, epochs, message in (
        ("random_cnn+random_clstm", 1, "a single encoder"),
        (MODEL, -1, "number of epochs"),
        (frozen, 0, "holds no encoder"),
    ):
        with pytest.raises(OptionError, match=message):
            Classifier(model, fine_tune=epochs, device="cpu").fit(*known)
