"""One audio file as a model hears it: samples, log-mel spectrogram, timestamp embeddings compared with one another."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hear_byols.config import FrontendConfig
from hear_byols.errors import OptionError
from hear_byols.frontend import LogMel
from hear_byols.inputs import pad_short

MAX_WINDOWS = 1200  # more than the picture has dots for
_FRAMES_MS = ((3, 250.0), (10, 500.0), (np.inf, 1000.0))  # windows of files shorter than so many seconds
_HOPS_PER_FRAME = 20  # the contract's 50 ms for 1000 ms


@dataclass(frozen=True)
class View:
    """What there is to see of a file."""

    name: str  # of the file
    samples: np.ndarray  # float32, mono [shape=(n_samples,)]
    sample_rate: int  # in Hz
    log_mel: np.ndarray  # float32, in nepers of power [shape=(n_mels, n_frames)]
    frontend: FrontendConfig  # of the spectrogram
    times: np.ndarray  # centres of the windows in seconds [shape=(n_windows,)]
    similarity: np.ndarray  # cosine of each pair of windows, float32 [shape=(n_windows, n_windows)]
    # 1 - cosine of the windows half a frame before and after each moment, float32 [shape=(n_windows,)]; NaN where one
    # of the two sticks out of the file: it would differ for the silence around it
    change: np.ndarray
    frame_ms: float  # length of a window
    hop_ms: float  # distance of two windows

    @property
    def inside(self) -> np.ndarray:
        """Which windows lie wholly within the file, boolean [shape=(n_windows,)]."""
        half = self.frame_ms / 2000
        return (self.times >= half - 1e-6) & (self.times <= self.seconds - half + 1e-6)

    @property
    def seconds(self) -> float:
        """Length of the file."""
        return len(self.samples) / self.sample_rate


def choose_framing(seconds: float, frame_ms: float | None = None, hop_ms: float | None = None) -> tuple[float, float]:
    """Choose window and hop in milliseconds for a file; what is given stays.

    Raises:
        OptionError: the hop is not positive or gives more than 1200 windows.
    """
    frame = frame_ms if frame_ms is not None else next(ms for limit, ms in _FRAMES_MS if seconds < limit)
    least = 1000 * seconds / (MAX_WINDOWS - 1)
    if hop_ms is None:
        # Round numbers: 12.5, 25, 50, 100, 200, 500, 1000, 2000 ...
        steps = [frame / _HOPS_PER_FRAME, *(step * 10**power for power in range(2, 9) for step in (1, 2, 5))]
        return frame, next(step for step in steps if step >= max(least, steps[0]))
    if not hop_ms > 0 or hop_ms < least:
        raise OptionError(
            f"hop_ms must be at least {least:.3g} for {seconds:.1f} s, so that there are at most {MAX_WINDOWS} "
            f"windows; got {hop_ms!r}"
        )
    return frame, hop_ms


def view_of(model: Any, samples: np.ndarray, name: str) -> View:
    """Compute what there is to see of a clip, float32, mono, at the model's rate [shape=(n_samples,)].

    A model without a log-mel front end of its own (openSMILE, concatenations) is shown with the default one.

    Raises:
        InputError: the clip cannot be embedded.
    """
    audio = torch.from_numpy(samples)[None]
    front = getattr(model, "log_mel", None) or LogMel(FrontendConfig(sample_rate=model.sample_rate))
    with torch.no_grad():
        log_mel = front(pad_short(audio, front.min_samples).to(front.window.device))[0].cpu().numpy()
    vectors, times = (value[0].cpu() for value in model.timestamp_embeddings(audio.to(model.device)))
    units = torch.nn.functional.normalize(vectors, dim=1)
    similarity = (units @ units.T).clamp(-1, 1).numpy()
    framing = model.framing
    change = np.full(len(similarity), np.nan, np.float32)
    reach = max(1, round(framing.frame_ms / framing.hop_ms / 2))  # half a frame, so that the two adjoin
    if len(similarity) > 4 * reach:
        inside = similarity[reach:-reach, reach:-reach]
        change[2 * reach : -2 * reach] = 1 - np.diagonal(inside, 2 * reach)
    return View(
        name=name,
        samples=samples,
        sample_rate=model.sample_rate,
        log_mel=log_mel,
        frontend=front.config,
        times=times.numpy() / 1000,
        similarity=similarity,
        change=change,
        frame_ms=framing.frame_ms,
        hop_ms=framing.hop_ms,
    )
