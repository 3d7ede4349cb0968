"""Synthetic sounds: seeded, bounded, varied."""

import math

import pytest
import torch

from hear_byols.training.synthetic import SyntheticSounds, _Dice


def draw(n=64, seed=0, n_samples=8000):
    return SyntheticSounds(n_samples).draw(n, torch.Generator().manual_seed(seed))


def test_sounds_are_bounded_finite_and_follow_the_generator():
    state = torch.random.get_rng_state()
    sounds = draw()
    assert sounds.shape == (64, 8000)
    assert sounds.isfinite().all()
    assert 0.5 < sounds.abs().max() <= 1
    assert torch.equal(sounds, draw())
    assert not torch.allclose(sounds, draw(seed=1))
    assert torch.equal(state, torch.random.get_rng_state())


def test_levels_pitches_and_noisiness_vary():
    sounds = draw()
    levels = 20 * torch.log10(sounds.abs().amax(1))
    assert levels.max() - levels.min() > 25
    power = torch.fft.rfft(sounds).abs().square() + 1e-12
    hz = torch.fft.rfftfreq(8000, 1 / 16000)
    centroids = (power * hz).sum(1) / power.sum(1)
    assert centroids.min() < 300
    assert centroids.max() > 2000
    flatness = power.log().mean(1).exp() / power.mean(1)  # 0 for a pure tone
    assert flatness.max() > 20 * flatness.min()


@pytest.mark.parametrize(("hz", "harmonics"), [(40, (1, 2, 3)), (4000, (1,))], ids=["low", "up to half the rate"])
def test_tone_is_the_sum_of_its_harmonics_below_half_the_sampling_rate(monkeypatch, hz, harmonics):
    """Without glide, tremble, tilt and inharmonicity, and all weights 0.5."""
    switches = iter([0.0, 0.0, 0.0])

    class Fixed(_Dice):
        def uniform(self, low, high):
            if (low, high) == (0, 1):
                return torch.full((1, 1), next(switches, 0.5))
            return torch.full((1, 1), math.log(hz) if high == math.log(4000) else float(low))

    monkeypatch.setattr("hear_byols.training.synthetic.N_HARMONICS", 3)
    tone = SyntheticSounds(1600)._tone(torch.arange(1600) / 16000, Fixed(1, torch.Generator()))
    samples = torch.arange(1, 1601).double()
    expected = sum(0.5 * torch.sin(k * 2 * torch.pi * hz * samples / 16000) for k in harmonics)
    torch.testing.assert_close(tone[0].double(), expected, atol=4e-3, rtol=0)


def test_events_start_after_their_onset_and_decay():
    sounds = SyntheticSounds(1600)
    time = torch.arange(1600) / 16000

    class Fixed(_Dice):
        def uniform(self, low, high):
            if (low, high) == (-0.5, 0.8):
                return torch.full((1, 1), 0.5)  # onset in the middle
            return torch.full((1, 1), float(low))

    envelope = sounds._envelope(time, Fixed(1, torch.Generator()))[0]
    assert not envelope[:800].any()
    assert 0.3 < envelope.max() <= 1
    assert envelope[-1] < 0.1 * envelope.max()
