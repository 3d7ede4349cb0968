"""Settings of all tests of pre-training."""

import pytest

pytest.importorskip("lightning", reason="pre-training needs the extra: pip install hear_byols[train]")

from pretraining import small_pool

from hear_byols.training import pretrain


@pytest.fixture(autouse=True)
def _quick(one_thread, monkeypatch):
    monkeypatch.setattr(pretrain, "STATISTICS_CROPS", 32)
    monkeypatch.setattr(pretrain, "_STATISTICS_BATCH", 32)


@pytest.fixture(scope="session")
def pool():
    """Tones of many pitches, and noise."""
    return small_pool()
