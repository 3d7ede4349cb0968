"""Embeddings as a scikit-learn transformer: files or arrays in, vectors out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch

from hear_byols.audio import load_audio
from hear_byols.errors import InputError, MissingDependencyError, OptionError
from hear_byols.extraction.folder import EmbeddingFolder, check_identity, identity_of
from hear_byols.hear import load_model, split_spec
from hear_byols.inputs import check_values, to_tensor
from hear_byols.weights.locate import existing_file

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as missing:
    raise MissingDependencyError(
        'hear_byols.sklearn needs scikit-learn: pip install "hear_byols[sklearn]"'
    ) from missing

_log = logging.getLogger(__name__)


class EmbeddingTransformer(TransformerMixin, BaseEstimator):
    """Embed whole clips with a frozen model (paper, section 2.4), for downstream scikit-learn estimators.

    There is nothing to fit. The weights are loaded at the first :meth:`transform` and shared by the transformers of
    equal parameters in a process. They are not pickled: a copy in another process loads them again, so ``model`` must
    name the same weights there.

    Args:
        model: as in ``hear_byols.load_model``: empty for the default model, a name, a path, ``"cvt_hybrid+opensmile"``.
        options: further options of ``hear_byols.load_model``, JSON-able, for example ``{"normalization": "clip"}``.
        batch_size: clips that are read and embedded at a time; the vectors do not depend on it.
        device: where the model works, ``"cpu"``, ``"cuda"`` ...
        on_error: ``"raise"``, or ``"skip"``: a clip that cannot be embedded is named in a warning of the log, and its
            row is NaN.

    Examples:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> probe = make_pipeline(EmbeddingTransformer("random_cnn"), StandardScaler(), LogisticRegression())
        >>> clips, labels = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 8000)), [0, 1, 0, 1]
        >>> probe.fit(clips, labels).predict(clips).shape
        (4,)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "",
        *,
        options: dict[str, Any] | None = None,
        batch_size: int = 32,
        device: str = "cpu",
        on_error: str = "raise",
    ) -> None:
        self.model = model
        self.options = options
        self.batch_size = batch_size
        self.device = device
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> EmbeddingTransformer:  # noqa: N803 - scikit-learn's name
        """Do nothing: the model is frozen. ``X`` and ``y`` are ignored."""
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Embed clips.

        Args:
            X: paths of audio files; or samples in [-1, 1] at 16 kHz (the model's rate), as an array
                [shape=(n_clips, n_samples)] or as clips of any lengths, each [shape=(n_samples,)]; or what
                ``hear_byols.read_embeddings`` gives, if its vectors are this model's.

        Returns:
            float32 [shape=(n_clips, scene_embedding_size)].

        Raises:
            InputError: neither paths nor clips, an unreadable file, or audio that cannot be embedded; names the clip.
            OptionError: a parameter is out of range, or vectors are another model's.
            hear_byols.HearByolsError: the model cannot be loaded; see ``hear_byols.load_model``.
        """
        if type(self.batch_size) is not int or self.batch_size < 1:
            raise OptionError(f"batch_size must be a positive integer, got {self.batch_size!r}")
        if self.on_error not in ("raise", "skip"):
            raise OptionError(f"on_error must be 'raise' or 'skip', got {self.on_error!r}")
        if isinstance(X, EmbeddingFolder):
            check_identity(X.settings, identity_of(self._load(), timestamps=False), "X")
            return X.vectors
        clips = _as_clips(X)
        model = self._load()
        vectors = np.full((len(clips), model.scene_embedding_size), np.nan, np.float32)
        for first in range(0, len(clips), self.batch_size):
            places, batch = [], []
            for i in range(first, min(first + self.batch_size, len(clips))):
                try:
                    batch.append(_read(clips[i], f"X[{i}]", model.sample_rate).to(model.device))
                    places.append(i)
                except InputError as error:
                    if self.on_error == "raise":
                        raise
                    _log.warning("not embedded: %s", error)
            if batch:
                vectors[places] = model.scene_embeddings(batch).cpu().numpy()
        return vectors

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the embedding's components: ``embedding0``, ``embedding1`` ...; loads the model for their number."""
        return np.array([f"embedding{i}" for i in range(self._load().scene_embedding_size)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _load(self) -> Any:
        spec = os.fspath(self.model) if isinstance(self.model, os.PathLike) else self.model
        if not isinstance(self.options, (dict, type(None))):
            raise OptionError(f"options must be a dictionary or None, got {self.options!r}")
        try:
            options = json.dumps(self.options or {}, sort_keys=True)
        except TypeError as error:
            raise OptionError(f"options must be JSON-able, got {self.options!r} ({error})") from error
        return _load(spec, options, str(self.device), tuple(_version(part) for part in split_spec(spec)))


@lru_cache(maxsize=4)  # a process keeps so many models, the latest used
def _load(spec: str, options: str, device: str, versions: tuple[Any, ...]) -> Any:
    return load_model(spec, **json.loads(options)).to(device)


def _version(spec: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Time and size of a file, so that one that was replaced is loaded again."""
    path = existing_file(spec) if isinstance(spec, str) else None
    return (path.stat().st_mtime_ns, path.stat().st_size) if path else None


def _as_clips(clips: Any) -> Sequence[Any]:
    """The paths or arrays of ``X`` as a sequence, without copying samples."""
    if isinstance(clips, (str, bytes, os.PathLike)):
        raise InputError(f"X must be a list of paths, got the single path {clips!r}; write [path]")
    if hasattr(clips, "to_numpy"):  # a column of a data frame
        clips = clips.to_numpy()
    if isinstance(clips, np.ndarray) and clips.dtype.kind in "UO":
        clips = clips.reshape(-1).tolist() if clips.ndim == 1 or clips.shape[1:] == (1,) else list(clips)
    if isinstance(clips, (np.ndarray, torch.Tensor)) and clips.ndim != 2:
        raise InputError(f"an array X must have the shape (n_clips, n_samples), got {tuple(clips.shape)}")
    if not isinstance(clips, (np.ndarray, torch.Tensor, list, tuple)):
        raise InputError(f"X must be paths or clips in a list or array, got {type(clips).__name__}")
    if len(clips) == 0:
        raise InputError("X holds no clips; at least one is needed")
    return cast("Sequence[Any]", clips)


def _read(clip: Any, label: str, sample_rate: int) -> torch.Tensor:
    """A path or array as checked samples, float32 [shape=(n_samples,)]."""
    if isinstance(clip, (str, os.PathLike)):
        label, clip = os.fspath(clip), load_audio(clip, sample_rate)
    samples = to_tensor(np.asarray(clip) if isinstance(clip, (list, tuple)) else clip, label)
    if samples.ndim != 1 or samples.numel() == 0:
        raise InputError(f"{label} must hold samples [shape=(n_samples,)], got the shape {tuple(samples.shape)}")
    check_values(samples[None], [label])
    return samples
