"""Targets of the hybrid's supervised loss (paper, section 2.2): features of fixed crops, extracted once, on disk.

They are openSMILE's, or those of any HEAR module (section 4, "learnable"). openSMILE takes tens of milliseconds a crop,
far longer than a training step on that crop, so the crops are drawn once. Extraction can be interrupted and continued,
and more crops can be added later: a folder holds ``recipe.json``, ``features.f32`` (float32 rows, one behind the other)
and ``features.crc32`` (a checksum of each).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import soxr
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from hear_byols._util.device import find_device
from hear_byols._util.files import CONTINUES, output_path, remove_parts, writing
from hear_byols.errors import HearByolsError, InputError, OptionError
from hear_byols.opensmile import N_FEATURES, OpenSmileModel
from hear_byols.training.config import OPENSMILE, SAMPLE_RATE
from hear_byols.training.distributed import seeded
from hear_byols.training.pool import AudioPool, cut_crops, draw_positions

logger = logging.getLogger(__name__)

CLIP = 5.0  # standard deviations; the few values beyond would rule the squared error
FIT_ROWS = 20_000  # crops behind the statistics, at most
_DRAW_BLOCK = 1000  # crops drawn from one seed, so that more crops leave the first ones as they are
_BATCH = 16


class OpenSmileExtractor:
    """The 6373 ComParE 2016 functionals of openSMILE; NaN where it has none. Needs the package opensmile."""

    n_features = N_FEATURES

    def __init__(self) -> None:
        self._model = OpenSmileModel()

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Extract: float32 (n_crops, n_samples) -> float32 (n_crops, 6373)."""
        return np.stack([self._model.functionals(crop) for crop in crops])


class HearExtractor:
    """Scene embeddings of any module with the HEAR API; crops are resampled where its model has another rate.

    Args:
        spec: ``"MODULE"`` or ``"MODULE:PATH"``, such as ``"hear_byols:cvt_hybrid"``; PATH goes to ``load_model``.

    Raises:
        OptionError: no such module, not a HEAR module, or its ``load_model`` fails.
    """

    def __init__(self, spec: str) -> None:
        name, _, path = spec.partition(":")
        try:
            module = import_module(name)
            model = module.load_model(path) if path else module.load_model()
            self._embed: Callable = module.get_scene_embeddings
            self.n_features = int(model.scene_embedding_size)
        except HearByolsError:
            raise
        except Exception as error:  # whatever a foreign module raises
            fault = f"targets {spec!r} cannot be loaded as a HEAR module ({type(error).__name__}: {error})"
            accepted = f'"{OPENSMILE}", "MODULE" or "MODULE:PATH" with load_model and get_scene_embeddings'
            raise OptionError(f"{fault}; accepted: {accepted}") from error
        self._device = find_device("auto")
        self._model = model.to(self._device)
        self._rate = int(model.sample_rate)

    def __call__(self, crops: np.ndarray) -> np.ndarray:
        """Extract: float32 (n_crops, n_samples) -> float32 (n_crops, n_features).

        Raises:
            OptionError: the module fails, or its embeddings have another shape than its model says.
        """
        if self._rate != SAMPLE_RATE:
            crops = soxr.resample(crops.T, SAMPLE_RATE, self._rate, quality="HQ").T
        audio = torch.from_numpy(np.ascontiguousarray(crops)).to(self._device)
        try:
            with torch.no_grad():
                features = self._embed(audio, self._model).float().cpu().numpy()
        except Exception as error:  # whatever a foreign module raises
            raise OptionError(f"the targets' module failed on a crop ({type(error).__name__}: {error})") from error
        if features.shape != (len(crops), self.n_features):
            got = f"the targets' module gave embeddings of shape {features.shape} for {len(crops)} crops"
            raise OptionError(f"{got}; its scene_embedding_size says {(len(crops), self.n_features)}")
        return features


def make_extractor(spec: str) -> OpenSmileExtractor | HearExtractor:
    """Load an extractor of crops at 16 kHz: ``"opensmile"``, or see :class:`HearExtractor`."""
    return OpenSmileExtractor() if spec == OPENSMILE else HearExtractor(spec)


def read_recipe(folder: Path) -> dict:
    """What a folder of the cache holds, by its ``recipe.json``; empty if there is none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / "recipe.json"
    try:
        recipe = dict(json.loads(path.read_text(encoding="utf-8")))
        if not recipe or type(recipe.get("n_features", 0)) is not int:
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove the folder, and what it holds is made again") from error
    return recipe


def begin_or_continue(folder: Path, recipe: dict) -> None:
    """Note what a folder of the cache is to hold, or compare it with what it holds.

    Raises:
        InputError: it is damaged, or holds what was made in another way.
    """
    present, recipe = read_recipe(folder), json.loads(json.dumps(recipe))  # tuples are lists there
    if present and present != recipe:
        differing = ", ".join(k for k in recipe if present.get(k) != recipe[k])
        message = f"{folder} holds what was made in another way (different: {differing})"
        raise InputError(f"{message}; name another cache folder, or remove it")
    if not present:
        with output_path(folder / "recipe.json", CONTINUES) as part:
            part.write_text(json.dumps(recipe), encoding="utf-8")


def _whole_rows(rows_path: Path, sums_path: Path, n_features: int) -> int:
    """How many rows of features are what was written; the first other one and all behind it do not count."""
    if not (n_features and rows_path.exists() and sums_path.exists()):
        return 0
    sums, width, n_whole = np.fromfile(sums_path, "<u4"), 4 * n_features, 0
    n_done = min(rows_path.stat().st_size // width, len(sums))
    with open(rows_path, "rb") as rows:
        while n_whole < n_done and zlib.crc32(rows.read(width)) == sums[n_whole]:
            n_whole += 1
    if n_whole < n_done:
        logger.warning("%s: damaged from row %d on, which is extracted again", rows_path, n_whole)
    return n_whole


def feature_positions(pool: AudioPool, n_crops: int, n_samples: int, seed: int) -> Tensor:
    """Positions of the crops that have features, as ``draw_positions``; those of fewer crops are the first of more."""
    offsets = torch.from_numpy(pool.offsets)
    blocks = [
        draw_positions(offsets, _DRAW_BLOCK, n_samples, seeded(torch.Generator(), seed, block, "features"))
        for block in range(-(-n_crops // _DRAW_BLOCK))
    ]
    return torch.cat(blocks)[:n_crops]


def extract_features(
    pool: AudioPool,
    folder: str | os.PathLike[str],
    targets: str,
    n_crops: int,
    n_samples: int,
    seed: int = 0,
    workers: int = 0,
    progress: bool = False,
) -> tuple[Tensor, np.ndarray]:
    """Extract the features of crops, or of those still missing. Processes may share the folder: one works, others wait.

    Args:
        folder: of the features, which has at least ``n_crops`` rows then; made if missing.
        targets: see :func:`make_extractor`.
        workers: processes to extract with; 0 works in this one.
        progress: show a bar.

    Returns:
        Positions of the crops, see :func:`feature_positions`, and their features, float32, memory-mapped
        [shape=(n_crops, n_features)].

    Raises:
        MissingDependencyError: opensmile is not installed.
        OptionError: the extractor cannot be loaded.
        InputError: the folder holds features of other crops.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows_path, sums_path = folder / "features.f32", folder / "features.crc32"
    positions = feature_positions(pool, n_crops, n_samples, seed)
    recipe = {"targets": targets, "n_samples": n_samples, "seed": seed, "sample_rate": SAMPLE_RATE, "pool": pool.digest}
    with FileLock(folder / "lock"):
        remove_parts(folder)
        n_features = read_recipe(folder).get("n_features", 0)
        n_done = _whole_rows(rows_path, sums_path, n_features)
        extractor = make_extractor(targets) if n_done < n_crops else None
        n_features = extractor.n_features if extractor else n_features
        begin_or_continue(folder, {**recipe, "n_features": n_features})
        if extractor:
            audio = torch.from_numpy(pool.audio)
            batches = (cut_crops(audio, part, n_samples).numpy() for part in positions[n_done:].split(_BATCH))
            rows = _extract_all(batches, extractor, targets, workers)
            rows = tqdm(rows, "features", n_crops, initial=n_done, unit="crop", disable=not progress)
            with open(rows_path, "ab") as values, open(sums_path, "ab") as sums:
                values.truncate(4 * n_features * n_done)
                sums.truncate(4 * n_done)
                for row in rows:
                    content = np.ascontiguousarray(row, np.float32).tobytes()
                    with writing(rows_path, CONTINUES):
                        for file, part in ((values, content), (sums, zlib.crc32(content).to_bytes(4, "little"))):
                            file.write(part)
                            file.flush()
    return positions, np.memmap(rows_path, np.float32, "r", shape=(n_crops, n_features))


def _extract_all(batches: Iterator[np.ndarray], extractor, targets: str, workers: int) -> Iterator[np.ndarray]:
    if not workers:
        for batch in batches:
            yield from extractor(batch)
        return
    with multiprocessing.get_context("spawn").Pool(workers, torch.set_num_threads, (1,)) as processes:
        while group := list(islice(batches, 8 * workers)):  # imap alone would read all batches ahead
            for rows in processes.imap(partial(_extract, targets), group):
                yield from rows


_extractor = lru_cache(maxsize=1)(make_extractor)  # one a worker process


def _extract(targets: str, crops: np.ndarray) -> np.ndarray:
    return _extractor(targets)(crops)


@dataclass(frozen=True)
class FeatureScaler:
    """Feature-wise z = (asinh((x - centre) / scale) - mean) / std, clipped to +-5; without a value: 0.

    Many ComParE functionals have tails over several decades, and the squared error would be spent on them. ``asinh`` is
    the identity near the median and a logarithm far from it. NaN, infinity and features that are constant over the
    pool become 0, the mean: a constant prediction is then right for them, and no crop is lost.
    """

    centre: Tensor  # medians, float32 [shape=(n_features,)], as all others
    scale: Tensor  # interquartile ranges over 1.349, the standard deviation if that is 0, 1 for constants
    mean: Tensor  # of the squashed values
    std: Tensor  # likewise; 0 for constants

    @classmethod
    def fit(cls, features: np.ndarray) -> FeatureScaler:
        """Measure the statistics on raw features [shape=(n_crops, n_features)]."""
        columns = [_fit_column(features[:, i].astype(np.float64)) for i in range(features.shape[1])]
        return cls(*(torch.tensor(values, dtype=torch.float32) for values in zip(*columns, strict=True)))

    def __call__(self, features: Tensor) -> Tensor:
        """Standardize raw features [shape=(..., n_features)], on any device: float32, finite, within +-5."""
        centre, scale, mean, std = (v.to(features.device) for v in vars(self).values())
        features = features.float()
        squashed = torch.asinh((features - centre) / scale)
        z = ((squashed - mean) / std).clamp(-CLIP, CLIP)
        return torch.where(features.isfinite() & (std > 0), z, 0)


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
