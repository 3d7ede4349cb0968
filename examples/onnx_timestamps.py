"""Timestamp embeddings of long audio from an ONNX file of scenes: numpy and onnxruntime, no torch.

The file has to be of normalization ``dataset``, where a window's vector depends on the window alone:

    hear-byols export cnn_hybrid --normalization dataset --output model.onnx
"""

from fractions import Fraction

import numpy as np


def timestamps(session, audio, rate, frame_ms=1000, hop_ms=50, batch=32):
    """Embed windows of audio as ``get_timestamp_embeddings`` does.

    Args:
        session: ``onnxruntime.InferenceSession`` of the file.
        audio: mono float32 samples in [-1, 1] [shape=(n_samples,)].
        rate: of the audio, the file's ``sample_rate``, in Hz.
        frame_ms: length of a window, from 100.
        hop_ms: distance of windows.
        batch: windows in one call.

    Returns:
        Embeddings [shape=(n_windows, size)] and the windows' centres in ms [shape=(n_windows,)].
    """
    hop = Fraction(hop_ms) * rate / 1000  # exact, so that nothing drifts
    frame = int(Fraction(frame_ms) * rate / 1000 + Fraction(1, 2))
    padded = np.pad(audio, (frame // 2, frame))  # the first window is centred on sample 0
    n_windows = int(len(audio) / hop) + 1
    starts = [int(i * hop + Fraction(1, 2)) for i in range(n_windows)]
    vectors = []
    for first in range(0, n_windows, batch):
        windows = np.stack([padded[start : start + frame] for start in starts[first : first + batch]])
        vectors += session.run(["embedding"], {"waveform": windows})
    return np.concatenate(vectors), np.arange(n_windows) * hop_ms
