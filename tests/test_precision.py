"""``precision="float32"`` means it: on a GPU the hardware's rounding of operands to TF32 is off, and only meanwhile."""

from __future__ import annotations

import pytest
import torch

from hear_byols._util.device import _switches, autocast


def settings() -> list[object]:
    return [getattr(owner, name) for owner, name, _ in _switches()]


def test_tf32_is_off_inside_and_as_before_outside():
    before = settings()
    with autocast("float32", torch.device("cuda")):  # needs no GPU to be set
        assert settings() == [value for _, _, value in _switches()]
    assert settings() == before


def test_the_setting_comes_back_after_an_error():
    before = settings()
    with pytest.raises(RuntimeError), autocast("float32", torch.device("cuda")):
        raise RuntimeError
    assert settings() == before


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_used(precision):
    with autocast(precision, torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, precision)
