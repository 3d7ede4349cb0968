"""Hand-crafted targets of the hybrid (paper, section 2.2): 6373 openSMILE ComParE 2016 functionals of fixed crops.

Extraction takes tens of milliseconds a crop, far longer than a training step on that crop, so the crops are drawn
once and their features kept on disk. Extraction can be interrupted and continued, also while training already reads.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hear_byols.errors import InputError, MissingDependencyError
from hear_byols.training.data import AudioPool, draw_crops

logger = logging.getLogger(__name__)

N_FEATURES = 6373
CLIP = 5.0  # standard deviations; the few values beyond would rule the squared error
_SAVE_EVERY = 200


class CompareExtractor:
    """openSMILE's ComParE 2016 functionals of a crop.

    Args:
        sample_rate: rate of the audio in Hz.

    Raises:
        MissingDependencyError: opensmile is not installed.
    """

    def __init__(self, sample_rate: int = 16000) -> None:
        try:
            import opensmile
        except ImportError as error:
            raise MissingDependencyError(
                "hybrid pre-training needs openSMILE (free for research): pip install opensmile"
            ) from error
        self.sample_rate = sample_rate
        self._smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Extract.

        Args:
            audio: int16 [shape=(n_samples,)].

        Returns:
            float32 [shape=(6373,)]; NaN where openSMILE has no value.
        """
        return self._smile(audio.astype(np.float32) / 32768, self.sample_rate).reshape(-1)


class FeatureStore:
    """Places of crops and their features on disk; the first ``n_done`` rows are complete.

    Args:
        folder: where ``places.npy`` (int64), ``features.npy`` (float32, about 25 kB a crop) and ``progress.json`` lie.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)

    @property
    def n_done(self) -> int:
        """Number of rows whose features are on disk."""
        try:
            return json.loads((self.folder / "progress.json").read_text())["n_done"]
        except FileNotFoundError:
            return 0

    def places(self) -> np.ndarray:
        """Clip and first sample of every crop [shape=(n_crops, 2)]."""
        return np.load(self.folder / "places.npy")

    def features(self) -> np.ndarray:
        """Finished rows, memory-mapped [shape=(n_done, 6373)]."""
        return np.load(self.folder / "features.npy", mmap_mode="r")[: self.n_done]

    def create(self, pool: AudioPool, n_crops: int, n_samples: int, seed: int) -> None:
        """Draw the crops and reserve the file, or keep what is there if it was made in the same way.

        Args:
            pool: audio to draw from.
            n_crops: number of crops.
            n_samples: length of a crop in samples.
            seed: of the draw.

        Raises:
            InputError: the folder holds crops that were drawn in another way.
        """
        recipe = {
            "n_crops": n_crops,
            "n_samples": n_samples,
            "seed": seed,
            "pool_samples": int(pool.offsets[-1]),
            "pool_clips": pool.n_clips,
        }
        recipe_path = self.folder / "recipe.json"
        if recipe_path.exists():
            present = json.loads(recipe_path.read_text())
            if present != recipe:
                raise InputError(f"{self.folder} holds features of other crops: {present}, not {recipe}; remove it")
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        np.save(self.folder / "places.npy", draw_crops(pool, n_crops, n_samples, np.random.default_rng(seed)))
        shape = (n_crops, N_FEATURES)
        np.lib.format.open_memmap(self.folder / "features.npy", mode="w+", dtype=np.float32, shape=shape)
        self._save_progress(0)
        recipe_path.write_text(json.dumps(recipe))

    def fill(self, rows: Iterable[np.ndarray]) -> None:
        """Append features behind the finished rows.

        Args:
            rows: features of the crops ``n_done``, ``n_done + 1``, ... in order.
        """
        features = np.lib.format.open_memmap(self.folder / "features.npy", mode="r+")
        n_done = self.n_done
        for row in rows:
            features[n_done] = row
            n_done += 1
            if n_done % _SAVE_EVERY == 0:
                features.flush()
                self._save_progress(n_done)
                logger.info("features of %d of %d crops", n_done, len(features))
        features.flush()
        self._save_progress(n_done)

    def _save_progress(self, n_done: int) -> None:
        partial = self.folder / "progress.tmp"
        partial.write_text(json.dumps({"n_done": n_done}))
        os.replace(partial, self.folder / "progress.json")


def extract_features(
    pool: AudioPool, folder: str | os.PathLike, n_crops: int, n_samples: int, seed: int = 0, workers: int = 0
) -> FeatureStore:
    """Extract the features of a fixed set of crops, or of those still missing.

    Args:
        pool: audio to draw from.
        folder: of the :class:`FeatureStore`.
        n_crops: number of crops, drawn uniformly over time.
        n_samples: length of a crop in samples.
        seed: of the draw.
        workers: processes to extract with; 0 works in this one.

    Returns:
        The store, complete.

    Raises:
        MissingDependencyError: opensmile is not installed.
        InputError: the folder holds features of other crops.
    """
    store = FeatureStore(folder)
    store.create(pool, n_crops, n_samples, seed)
    todo = store.places()[store.n_done :]
    if len(todo):
        crops = (pool.crop(clip, start, n_samples) for clip, start in todo)
        store.fill(_extract_all(crops, pool.sample_rate, workers))
    return store


def _extract_all(crops: Iterable[np.ndarray], sample_rate: int, workers: int) -> Iterator[np.ndarray]:
    if not workers:
        yield from map(CompareExtractor(sample_rate), crops)
        return
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker, (sample_rate,)) as processes:
        yield from processes.imap(_work, crops, chunksize=16)


_extractor: CompareExtractor | None = None  # one per worker process


def _start_worker(sample_rate: int) -> None:
    global _extractor
    _extractor = CompareExtractor(sample_rate)


def _work(crop: np.ndarray) -> np.ndarray:
    return _extractor(crop)


@dataclass(frozen=True)
class Standardizer:
    """Feature-wise z = (asinh((x - centre) / scale) - mean) / std, clipped to +-5; without a value: 0.

    Many ComParE functionals have tails over several decades, and the squared error would be spent on them. ``asinh`` is
    the identity near the median and a logarithm far from it. NaN, infinity and features that are constant over the
    pool become 0, the mean: a constant prediction is then right for them, and no crop is lost.

    Args:
        centre: medians [shape=(n_features,)].
        scale: interquartile ranges over 1.349, the standard deviation if that is 0, 1 for constants.
        mean: means of the squashed values.
        std: standard deviations of the squashed values; 0 for constants.
    """

    centre: np.ndarray
    scale: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Standardizer:
        """Measure the statistics.

        Args:
            features: raw features [shape=(n_crops, n_features)].
        """
        columns = [_fit_column(features[:, i].astype(np.float64)) for i in range(features.shape[1])]
        return cls(*(np.array(values, dtype=np.float32) for values in zip(*columns, strict=True)))

    @classmethod
    def load_or_fit(cls, path: str | os.PathLike, store: FeatureStore) -> Standardizer:
        """Read the statistics from ``path`` (.npz), or measure them on the store's rows and keep them there.

        A run that is resumed after the store has grown thus keeps its targets.
        """
        path = Path(path)
        if path.exists():
            with np.load(path) as arrays:
                return cls(**arrays)
        standardizer = cls.fit(store.features())
        np.savez(path, **vars(standardizer))
        return standardizer

    @property
    def n_constant(self) -> int:
        """Number of features that carry nothing."""
        return int((self.std == 0).sum())

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardise.

        Args:
            features: raw features [shape=(..., n_features)].

        Returns:
            float32 of the same shape, finite, within +-5.
        """
        features = np.asarray(features, dtype=np.float64)
        missing = ~np.isfinite(features)
        squashed = np.arcsinh((np.where(missing, self.centre, features) - self.centre) / self.scale)
        z = (squashed - self.mean) / np.where(self.std > 0, self.std, np.inf)
        return np.where(missing, 0.0, z.clip(-CLIP, CLIP)).astype(np.float32)


def _fit_column(values: np.ndarray) -> tuple[float, float, float, float]:
    """Centre, scale, mean and std of one feature."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0, 0.0, 0.0
    low, centre, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = values.std()
    if spread <= 1e-6 * max(abs(centre), 1e-12):  # constant up to float32 rounding
        return float(centre), 1.0, 0.0, 0.0
    scale = (high - low) / 1.349
    if scale <= 1e-6 * spread:  # more than half of the crops share one value
        scale = spread
    squashed = np.arcsinh((values - centre) / scale)
    return float(centre), float(scale), float(squashed.mean()), float(squashed.std())
