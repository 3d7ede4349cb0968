"""A classifier of sounds: an encoder, frozen or fine-tuned, and a linear head, learnt from labelled clips."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hear_byols.answers.artefact import Artefact, kept_settings, packed, settings_of
from hear_byols.answers.examples import Clips, check_classes, clips_of
from hear_byols.answers.finetune import fine_tune
from hear_byols.answers.head import FittedHead, cooled, fit_head, fit_temperature, refit, softmax
from hear_byols.answers.learner import Learner
from hear_byols.answers.report import Assessment
from hear_byols.audio import load_audio
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.arrays import embed_files
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import IDENTITY, EmbeddingFolder, check_identity


class Classifier(Learner):
    """Say which of some classes a clip is of.

    Clips are paths of audio files; or samples in [-1, 1] at the model's rate, in an array [shape=(n_clips, n_samples)]
    or a list of clips of any lengths; or what ``hear_byols.read_embeddings`` gives, whose vectors must be of the same
    model and settings.

    Args:
        model: what ``hear_byols.load_model`` takes, by default the default model; or a fine-tuned classifier's file.
        head: ``"ridge"`` or ``"logistic"``.
        fine_tune: epochs in which the encoder is trained further; 0: it stays as it is. Fine-tuning is kept if it
            tells more clips right than the frozen encoder, of a part that neither has seen.
        options: of ``load_model``: normalization, layers, precision.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    """

    KIND = "clips"
    ELSE = "finds events in time; use 'hear-byols detect' or hear_byols.answers.detector"

    def __init__(
        self,
        model: PathLike = "",
        *,
        head: str = "ridge",
        fine_tune: int = 0,
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        if fine_tune < 0:
            raise OptionError(f"fine_tune is a number of epochs, 0 for none; got {fine_tune}")
        super().__init__(model, options or {}, device)
        self._head = head
        self._epochs = fine_tune
        self._assessment: Assessment | None = None

    @property
    def assessment(self) -> Assessment:
        """What :meth:`fit` found out on held-out clips; an ``OptionError`` if nothing was fitted here."""
        if self._assessment is None:
            raise OptionError("the held-out clips are known right after fit only; a file keeps their scores")
        return self._assessment

    def fit(self, clips: Any, labels: Sequence[Any], groups: Sequence[Any] | None = None) -> Classifier:
        """Learn from labelled clips; :attr:`scores` then says how well held-out ones were told apart.

        Args:
            clips: at least two of each class.
            labels: a class a clip.
            groups: a group a clip, such as its recording or speaker: no group is on both sides of a test.

        Raises:
            InputError: a clip cannot be read, or labels and clips differ in number.
            OptionError: fewer than two classes or clips of a class.
        """
        found = self._clips(clips)
        owners = () if groups is None else tuple(map(str, groups))
        if len(labels) != len(found.names) or len(owners) not in (0, len(found.names)):
            raise InputError(
                f"{len(found.names)} clips need as many labels and groups, got {len(labels)} and {len(owners)}"
            )
        return self.fit_clips(replace(found, labels=tuple(map(str, labels)), groups=owners))

    def fit_clips(self, clips: Clips, *, progress: bool = False) -> Classifier:
        """As :meth:`fit`, from vectors that are there."""
        check_classes(clips)
        classes = tuple(sorted(set(clips.labels)))
        targets = np.array([classes.index(label) for label in clips.labels])
        fitted = fit_head(clips.vectors, targets, clips.groups, self._head)
        self._assessment = Assessment(classes, clips.names, targets, fitted.held_out, fitted.folds)
        source = clips.source
        settings = kept_settings(source.settings) if source is not None else self._settings(False, self._options)
        training = {
            "head": fitted.kind,
            "strength": fitted.strength,
            "clips": {label: clips.labels.count(label) for label in classes},
            "grouped": bool(clips.groups),
            "scores": self._assessment.scores(),
            "confusion": self._assessment.confusion.tolist(),
        }
        self._artefact = Artefact(self.KIND, classes, fitted.head, settings, training, self._encoder)
        if self._epochs:
            self._fine_tune(clips, targets, fitted, progress)
        return self

    def _fine_tune(self, clips: Clips, targets: np.ndarray, fitted: FittedHead, progress: bool) -> None:
        """Train the encoder further without the first fold; if that fold is told better then, train it on all clips."""
        frozen, model, epochs = self.artefact, self.model, self._epochs
        samples = [load_audio(clip, model.sample_rate) if _is_path(clip) else np.asarray(clip) for clip in clips.audio]
        kept, held_out = (np.flatnonzero(each).tolist() for each in (fitted.folds != 0, fitted.folds == 0))
        known = (len(self.classes), fitted.kind, fitted.strength, fitted.temperature)
        start = refit(clips.vectors[kept], targets[kept], *known)
        tuned, head = fine_tune(model, start, [samples[i] for i in kept], targets[kept], epochs, progress=progress)
        scores = head.scores(tuned.scene_embeddings([samples[i] for i in held_out]).cpu().numpy())
        temperature = max(1.0, fit_temperature(scores, targets[held_out]))  # few clips may say that it is too sure
        names, test = tuple(clips.names[i] for i in held_out), targets[held_out]
        found = Assessment(self.classes, names, test, softmax(scores / temperature), np.zeros(len(names), np.int64))
        accuracy = float((found.probabilities.argmax(1) == test).mean())
        before = float((start.probabilities(clips.vectors[held_out]).argmax(1) == test).mean())
        about = {"epochs": epochs, "n_held_out": len(names), "kept": accuracy > before}
        about |= {"accuracy": accuracy, "accuracy_frozen": before}
        training = {**frozen.training, "fine_tuned": about}
        if not about["kept"]:
            self._artefact = replace(frozen, training=training)
            return
        tuned, head = fine_tune(model, fitted.head, samples, targets, epochs, progress=progress)
        self._model, self._encoder, self._assessment = tuned, packed(tuned), found
        training |= {"scores": found.scores(), "confusion": found.confusion.tolist()}
        settings = {**settings_of(tuned, self._spec, False, self._options), "about": frozen.settings["about"]}
        self._artefact = Artefact(self.KIND, self.classes, cooled(head, temperature), settings, training, self._encoder)

    def predict(self, clips: Any) -> np.ndarray:
        """The most probable class of each clip, as text [shape=(n_clips,)].

        Raises:
            InputError: a clip cannot be read.
            OptionError: vectors of another model or setting.
        """
        return np.array(self.classes)[self.predict_proba(clips).argmax(1)]

    def predict_proba(self, clips: Any) -> np.ndarray:
        """Probabilities of :attr:`classes`, float32 [shape=(n_clips, n_classes)]; errors as :meth:`predict`."""
        _ = self.artefact  # before any work is done
        return self.judge(self._clips(clips))

    def judge(self, clips: Clips) -> np.ndarray:
        """As :meth:`predict_proba`, for vectors that are there."""
        self._check(clips.source)
        return self.artefact.head.probabilities(clips.vectors)

    def _clips(self, clips: Any) -> Clips:
        if isinstance(clips, EmbeddingFolder):
            self._check(clips)
            return clips_of(clips)
        if _is_path(clips):
            raise InputError(f"clips must be a list of paths, got the single path {str(clips)!r}; write [path]")
        if len(clips) and _is_path(clips[0]):
            return Clips(np.asarray(embed_files(list(clips), self.model)), tuple(map(str, clips)), audio=tuple(clips))
        vectors = self.model.scene_embeddings(clips).cpu().numpy()
        return Clips(vectors, tuple(map(str, range(len(vectors)))), audio=tuple(clips))

    def _check(self, source: EmbeddingFolder | None) -> None:
        if source is None:
            return
        if source.times_ms is not None:
            raise OptionError("these are embeddings of windows; a classifier of clips takes those of whole files")
        if self._artefact is not None:
            check_identity(source.settings, {name: self._artefact.settings[name] for name in IDENTITY}, "these vectors")


def _is_path(clip: Any) -> bool:
    return isinstance(clip, (str, os.PathLike))
