"""A classifier of sounds: a frozen encoder and a linear head, learnt from labelled clips, kept as one file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hear_byols._util.device import find_device
from hear_byols.answers.artefact import Artefact, check_name, read_artefact, settings_of
from hear_byols.answers.examples import Clips, check_classes
from hear_byols.answers.head import fit_head
from hear_byols.answers.report import Assessment
from hear_byols.errors import InputError, OptionError
from hear_byols.extraction.arrays import embed_files
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import IDENTITY, EmbeddingFolder, check_identity, load_its_model
from hear_byols.hear import load_model


class Classifier:
    """Say which of some classes a clip is of.

    Clips are paths of audio files; or samples in [-1, 1] at the model's rate, in an array [shape=(n_clips, n_samples)]
    or a list of clips of any lengths; or what ``hear_byols.read_embeddings`` gives, whose vectors must be of the same
    model and settings.

    Args:
        model: what ``hear_byols.load_model`` takes; by default the default model.
        head: ``"ridge"`` or ``"logistic"``.
        options: of ``load_model``: normalization, layers, precision.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    """

    def __init__(
        self,
        model: PathLike = "",
        *,
        head: str = "ridge",
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        self._spec = model
        self._kind = head
        self._options = dict(options or {})
        self._device = device
        self._model: Any = None
        self._artefact: Artefact | None = None
        self._assessment: Assessment | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in alphabetical order."""
        return self.artefact.classes

    @property
    def scores(self) -> dict[str, Any]:
        """Scores on held-out clips: accuracy, its spread over the folds, mean recall of the classes, counts."""
        return dict(self.artefact.training["scores"])

    @property
    def artefact(self) -> Artefact:
        """What the file holds.

        Raises:
            OptionError: nothing was learnt yet.
        """
        if self._artefact is None:
            raise OptionError("this classifier has learnt nothing yet; call fit, or Classifier.load")
        return self._artefact

    @property
    def assessment(self) -> Assessment:
        """What :meth:`fit` found out on held-out clips.

        Raises:
            OptionError: nothing was fitted here; a file keeps the scores only.
        """
        if self._assessment is None:
            raise OptionError("the held-out clips are known right after fit only; a file keeps their scores")
        return self._assessment

    @property
    def model(self) -> Any:
        """The encoder, loaded when it is first needed."""
        if self._model is None and self._artefact is not None:
            self._model = load_its_model(self._artefact.settings, self._spec or None, self._device)
        elif self._model is None:
            self._model = load_model(self._spec, **self._options).to(find_device(self._device))
        return self._model

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
        vectors = self._vectors(clips)
        source = clips if isinstance(clips, EmbeddingFolder) else None
        places = clips if not isinstance(clips, EmbeddingFolder) and _are_paths(clips) else range(len(vectors))
        names = source.names if source else tuple(str(place) for place in places)
        owners = () if groups is None else tuple(map(str, groups))
        if len(labels) != len(vectors) or len(owners) not in (0, len(vectors)):
            raise InputError(
                f"{len(vectors)} clips need as many labels and groups, got {len(labels)} and {len(owners)}"
            )
        return self.fit_clips(Clips(vectors, names, tuple(map(str, labels)), owners, source=source))

    def fit_clips(self, clips: Clips) -> Classifier:
        """As :meth:`fit`, from vectors that are there."""
        check_classes(clips)
        classes, targets = np.unique(np.array(clips.labels), return_inverse=True)
        fitted = fit_head(clips.vectors, targets, clips.groups, self._kind)
        classes = tuple(map(str, classes))
        self._assessment = Assessment(classes, clips.names, targets, fitted.held_out, fitted.folds)
        if clips.source is not None:
            about = clips.source.settings["about"]
            settings = {name: clips.source.settings[name] for name in IDENTITY}
            settings["about"] = {name: about.get(name) for name in ("spec", "options", "model") if name in about}
        else:
            settings = settings_of(self.model, self._spec, False, self._options)
        counts = {label: int((targets == i).sum()) for i, label in enumerate(classes)}
        training = {
            "head": fitted.kind,
            "strength": fitted.strength,
            "clips": counts,
            "grouped": bool(clips.groups),
            "scores": self.assessment.scores(),
            "confusion": self.assessment.confusion.tolist(),
        }
        self._artefact = Artefact("clips", classes, fitted.head, settings, training)
        return self

    def predict(self, clips: Any) -> np.ndarray:
        """The most probable class of each clip, as text [shape=(n_clips,)].

        Raises:
            InputError: a clip cannot be read.
            OptionError: vectors of another model or setting.
        """
        return np.array(self.classes)[self.predict_proba(clips).argmax(1)]

    def predict_proba(self, clips: Any) -> np.ndarray:
        """Probabilities of :attr:`classes`, float32 [shape=(n_clips, n_classes)]; errors as :meth:`predict`."""
        head = self.artefact.head  # before any work is done
        return head.probabilities(self._vectors(clips))

    def judge(self, clips: Clips) -> np.ndarray:
        """As :meth:`predict_proba`, for vectors that are there."""
        self._check(clips.source)
        return self.artefact.head.probabilities(clips.vectors)

    def save(self, path: PathLike) -> None:
        """Write all of it as one file, ``NAME.hbc``.

        Raises:
            OptionError: another ending.
            OutputError: it cannot be written.
        """
        self.artefact.save(check_name(path))

    @classmethod
    def load(cls, path: PathLike, *, model: PathLike = "", device: str = "auto") -> Classifier:
        """Read a classifier's file; nothing in it is executed. The model is loaded, and compared, at the first use.

        Args:
            path: the file.
            model: where the encoder's weights are, if the file's own word for them does not lead there.
            device: where to embed.

        Raises:
            CheckpointError: the file is not a classifier, or is damaged.
        """
        artefact = read_artefact(path)
        if artefact.kind != "clips":
            raise OptionError(f"{path} finds events in time; use 'hear-byols detect' or hear_byols.answers.detector")
        loaded = cls(model, head=str(artefact.training.get("head")), device=device)
        loaded._artefact = artefact
        return loaded

    def _vectors(self, clips: Any) -> np.ndarray:
        if isinstance(clips, EmbeddingFolder):
            self._check(clips)
            return clips.vectors
        if isinstance(clips, (str, os.PathLike)):
            raise InputError(f"clips must be a list of paths, got the single path {str(clips)!r}; write [path]")
        if _are_paths(clips):
            return np.asarray(embed_files(list(clips), self.model))
        return self.model.scene_embeddings(clips).cpu().numpy()

    def _check(self, source: EmbeddingFolder | None) -> None:
        if source is None:
            return
        if source.times_ms is not None:
            raise OptionError("these are embeddings of windows; a classifier of clips takes those of whole files")
        if self._artefact is not None:
            check_identity(source.settings, {name: self._artefact.settings[name] for name in IDENTITY}, "these vectors")


def _are_paths(clips: Any) -> bool:
    return len(clips) > 0 and isinstance(clips[0], (str, os.PathLike))
