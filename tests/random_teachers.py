"""Teachers with random weights, and sounds for them."""

import torch

from hear_byols.teachers import CLASSES


def random_teacher(name, **options):
    """A teacher with random weights, the same each time, and filters that see something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = CLASSES[name](**options)
        for key, buffer in teacher.named_buffers():
            if "mel" in key and not buffer.any():
                buffer.copy_(torch.rand_like(buffer))
    return teacher.eval().requires_grad_(False)


def sounds(n_clips, n_samples, seed=0):
    """Noise from quiet to loud."""
    noise = torch.randn(n_clips, n_samples, generator=torch.Generator().manual_seed(seed))
    return noise * torch.logspace(-3, -1, n_clips)[:, None]
