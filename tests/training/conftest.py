"""Settings of all tests of pre-training."""

import os
import sys

import pytest
import torch

pytest.importorskip("lightning", reason="pre-training needs the extra: pip install hear_byols[train]")

from pretraining import HEAR_MODULE, TEACHER_SIZES, band_teacher, tones_and_noise

from hear_byols.training import lessons, pretrain
from hear_byols.training.pool import AudioPool


@pytest.fixture(autouse=True, scope="module")
def _quick():
    """One thread, and few crops behind the statistics; also for what the tests of a module share."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "STATISTICS_CROPS", 32)
        patch.setattr(pretrain, "_STATISTICS_BATCH", 32)
        yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def pool():
    """Tones of many pitches, and noise."""
    return AudioPool.from_clips(tones_and_noise())


@pytest.fixture(scope="module")
def two_teachers():
    """Those of TEACHER_SIZES, without weights, instead of the real ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "load_teacher", lambda name, *_, **__: band_teacher(TEACHER_SIZES[name]))
        yield


@pytest.fixture
def bands(tmp_path, monkeypatch):
    """A HEAR module that supervises instead of openSMILE, here and in other processes."""
    (tmp_path / "bands_of_eight.py").write_text(HEAR_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    yield "bands_of_eight"
    sys.modules.pop("bands_of_eight", None)
