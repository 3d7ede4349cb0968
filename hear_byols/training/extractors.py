"""What supervises the hybrid: openSMILE (paper, section 2.2), or any HEAR module (its section 4, "learnable")."""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import soxr
import torch

from hear_byols._util.device import find_device
from hear_byols.errors import HearByolsError, OptionError
from hear_byols.opensmile import N_FEATURES, OpenSmileModel
from hear_byols.training.config import OPENSMILE, SAMPLE_RATE


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
            raise OptionError(
                f"targets {spec!r} cannot be loaded as a HEAR module ({type(error).__name__}: {error}); "
                f'accepted: "{OPENSMILE}", "MODULE" or "MODULE:PATH" with load_model and get_scene_embeddings'
            ) from error
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
