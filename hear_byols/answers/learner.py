"""What classifiers and detectors share: a model that is loaded when needed, and what was learnt, kept in one file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hear_byols._util.device import find_device
from hear_byols.answers.artefact import SUFFIX, Artefact, read_artefact, settings_of, unpacked
from hear_byols.errors import OptionError
from hear_byols.extraction.files import PathLike
from hear_byols.extraction.folder import load_its_model
from hear_byols.hear import load_model

_Self = TypeVar("_Self", bound="Learner")


class Learner:
    """A frozen or fine-tuned encoder with a head."""

    KIND: ClassVar[str]
    ELSE: ClassVar[str]  # what a file of the other kind is for

    def __init__(self, model: PathLike, options: Mapping[str, Any], device: str) -> None:
        self._spec = model
        self._options = dict(options)
        self._device = device
        self._encoder = b""  # of a fine-tuned classifier
        self._model: Any = None
        self._artefact: Artefact | None = None

    @property
    def artefact(self) -> Artefact:
        """What the file holds; an ``OptionError`` if nothing was learnt yet."""
        if self._artefact is None:
            raise OptionError(f"this {type(self).__name__.lower()} has learnt nothing yet; call fit, or load a file")
        return self._artefact

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in alphabetical order."""
        return self.artefact.classes

    @property
    def scores(self) -> dict[str, Any]:
        """Scores on what was held out, their spread over the folds, and counts."""
        return dict(self.artefact.training["scores"])

    @property
    def model(self) -> Any:
        """The encoder, loaded when it is first needed."""
        if self._model is None:
            if self._artefact is None and Path(self._spec).suffix == SUFFIX:
                self._encoder = read_artefact(self._spec).encoder
                if not self._encoder:
                    raise OptionError(f"{self._spec} holds no encoder; only 'classify train --fine-tune' writes one")
            with unpacked(self._encoder) as own:
                if self._artefact is not None:
                    self._model = load_its_model(self._artefact.settings, self._spec or own, self._device)
                else:
                    self._model = load_model(own or self._spec, **self._options).to(find_device(self._device))
        return self._model

    def _settings(self, timestamps: bool, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the model's vectors depend on; of a model that a file named, or that was fitted before, what it said."""
        if self._artefact is not None:
            return self._artefact.settings
        return settings_of(self.model, self._spec, timestamps, options)

    def check_labels(self, labels: Iterable[str]) -> None:
        """Refuse labels that are none of the classes by an ``OptionError``."""
        unknown = sorted(set(labels) - set(self.classes))
        if unknown:
            raise OptionError(f"the classifier knows {list(self.classes)}; the labels also say {unknown[:10]}")

    def save(self, path: PathLike) -> None:
        """Write all of it as one file, ``NAME.hbc``; errors as :meth:`Artefact.save`."""
        self.artefact.save(path)

    @classmethod
    def load(cls: type[_Self], path: PathLike, *, model: PathLike = "", device: str = "auto") -> _Self:
        """Read a file; nothing in it is executed. The model is loaded, and compared, at the first use.

        Args:
            path: the file.
            model: where the encoder's weights are, if the file's own word for them does not lead there.
            device: where to embed.

        Raises:
            CheckpointError: the file is not a classifier, or is damaged.
            OptionError: it is one of the other kind.
        """
        artefact = read_artefact(path)
        if artefact.kind != cls.KIND:
            raise OptionError(f"{path} {cls.ELSE}")
        loaded = cls(model, device=device)  # pyright: ignore[reportCallIssue] - the options of the kinds have defaults
        loaded._artefact, loaded._encoder = artefact, artefact.encoder
        return loaded
