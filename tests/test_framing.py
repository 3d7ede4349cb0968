"""Window and timestamp arithmetic is exact, however long the clip and however odd the hop."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hear_byols.framing import Framing


@given(
    hop_ms=st.one_of(st.integers(1, 500), st.floats(0.1, 500, allow_nan=False)),
    n_samples=st.integers(1, 16000 * 3600),
)
def test_windows_cover_the_clip_and_stay_inside_the_padding(hop_ms, n_samples):
    framing = Framing(1000, hop_ms, 16000)
    n = framing.n_windows(n_samples)
    last = Fraction(hop_ms) * 16 * (n - 1)
    assert last <= n_samples < last + Fraction(hop_ms) * 16
    (start,) = framing.starts(n - 1, n)
    assert abs(start - last) <= Fraction(1, 2)
    assert start + framing.frame_samples <= n_samples + sum(framing.padding)


def test_half_samples_are_rounded_upwards():
    framing = Framing(160.3125, 25.03125, 16000)
    assert framing.starts(0, 4) == [0, 401, 801, 1202]  # every 400.5 samples
    assert framing.padding == (1282, 1283)  # half a frame on both sides
