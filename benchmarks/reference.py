"""Embeddings made the way the original makes them: what the package's speed is compared with.

Written from the facts known of the original's behaviour, on the weights of a model of this package. Clips are embedded
one at a time; every timestamp window is cut out, kept, and has a spectrogram of its own; the encoder takes up to 512
windows at once; batch norm is a layer of its own; attention writes its whole score matrix, and the LSTM all outputs.
The vectors equal the package's under ``normalization="clip"`` (``tests/test_fast_paths.py``), only the way to them
differs.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hear_byols.encoders.clstm import CLSTM
from hear_byols.encoders.cnn import AudioNTT
from hear_byols.encoders.cvt import Attention, ChannelNorm, CvT, DepthwiseProjection
from hear_byols.encoders.multilayer import mean_max, time_major
from hear_byols.encoders.resnetish import ResNetish34
from hear_byols.frontend import LOG_OFFSET
from hear_byols.model import EmbeddingModel

WINDOWS_PER_CALL = 512


@torch.no_grad()
def scene_embeddings(audio: Tensor, model: EmbeddingModel) -> Tensor:
    """Embed whole clips one by one: (n_clips, n_samples) -> (n_clips, size)."""
    vectors = []
    for clip in audio:
        spectrogram = log_mel(clip[None], model)
        standard = (spectrogram - spectrogram.mean()) / spectrogram.std()
        vectors.append(encode(model.encoder, standard[:, None]))
    return torch.cat(vectors)


@torch.no_grad()
def timestamp_embeddings(audio: Tensor, model: EmbeddingModel) -> Tensor:
    """Embed all windows of each clip: (n_clips, n_samples) -> (n_clips, n_windows, size)."""
    vectors = []
    for clip in audio:
        starts = model.framing.starts(0, model.framing.n_windows(len(clip)))
        length = model.framing.frame_samples
        padded = F.pad(clip, model.framing.padding)
        spectrograms = log_mel(torch.stack([padded[start : start + length] for start in starts]), model)
        standard = (spectrograms - spectrograms.mean()) / spectrograms.std()
        calls = standard[:, None].split(WINDOWS_PER_CALL)
        vectors.append(torch.cat([encode(model.encoder, call) for call in calls]))
    return torch.stack(vectors)


def log_mel(audio: Tensor, model: EmbeddingModel) -> Tensor:
    """A spectrogram of each row: (n, n_samples) -> (n, n_mels, n_frames)."""
    config = model.config.frontend
    sizes = config.n_fft, config.hop_length, config.win_length
    power = torch.stft(audio, *sizes, model.log_mel.window, return_complex=True).abs().pow(2.0)  # centred, reflected
    return torch.log(torch.matmul(power.transpose(1, 2), model.log_mel.bank).transpose(1, 2) + LOG_OFFSET)


def encode(encoder: torch.nn.Module, x: Tensor) -> Tensor:
    """Run an encoder layer by layer: (batch, 1, n_mels, n_frames) -> (batch, size)."""
    if isinstance(encoder, CvT):
        return mean_max(time_major(_cvt(encoder, x)))
    if isinstance(encoder, ResNetish34):
        return mean_max(time_major(_resnetish(encoder, x)))
    if isinstance(encoder, AudioNTT):
        x = time_major(_blocks(encoder, x))
        hidden = encoder.dropout(F.relu(F.linear(x, encoder.fc1.weight, encoder.fc1.bias)))
        return mean_max(F.relu(F.linear(hidden, encoder.fc2.weight, encoder.fc2.bias)))
    if isinstance(encoder, CLSTM):
        sequence, _ = torch.nn.LSTM.forward(encoder.lstm, time_major(_blocks(encoder, x)))
        return F.relu(encoder.fc(sequence[:, -1]))
    raise TypeError(f"no reference for {type(encoder).__name__}")


def _blocks(encoder: AudioNTT | CLSTM, x: Tensor) -> Tensor:
    for block in encoder.blocks:
        x = F.max_pool2d(F.relu(block.norm(block.conv(x))), 2)
    return x


def _resnetish(encoder: ResNetish34, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(encoder.bn1(encoder.conv1(x))), 3, stride=2, padding=1)
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        for block in stage:
            out = block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x)))))
            x = F.relu(out + block.downsample(x))
    return x


def _cvt(encoder: CvT, x: Tensor) -> Tensor:
    for stage in encoder.stages:
        x = _channel_norm(stage.embed_norm, stage.embed(x))
        x = _attention(stage.attention, _channel_norm(stage.attention_norm, x)) + x
        hidden = F.gelu(stage.feed_forward.expand(_channel_norm(stage.feed_forward_norm, x)))
        x = stage.feed_forward.contract(hidden) + x
    return x


def _channel_norm(norm: ChannelNorm, x: Tensor) -> Tensor:
    mean = x.mean(dim=1, keepdim=True)
    std = torch.var(x, dim=1, unbiased=False, keepdim=True).sqrt()
    return (x - mean) / (std + norm.eps) * norm.weight[:, None, None] + norm.bias[:, None, None]


def _attention(attention: Attention, x: Tensor) -> Tensor:
    query = _heads(_project(attention.query, x), attention.heads)
    key, value = (_heads(half, attention.heads) for half in _project(attention.key_value, x).chunk(2, dim=1))
    scores = torch.matmul(query, key.transpose(1, 2)) * query.shape[-1] ** -0.5
    mixed = torch.matmul(scores.softmax(dim=-1), value)
    mixed = mixed.unflatten(0, (len(x), attention.heads)).transpose(2, 3)
    return attention.output(mixed.flatten(1, 2).unflatten(2, x.shape[2:]))


def _project(projection: DepthwiseProjection, x: Tensor) -> Tensor:
    return projection.pointwise(projection.norm(projection.depthwise(x)))


def _heads(x: Tensor, heads: int) -> Tensor:
    """(batch, heads * size, mel, time) -> (batch * heads, mel * time, size)."""
    return x.flatten(2).unflatten(1, (heads, -1)).flatten(0, 1).transpose(1, 2)
