"""The real ``hear-validator`` accepts the package, every encoder and every named variant.

A run costs 15 to 20 s of processor time for the CNN and the CvT and 55 s for ResNetish-34, CLSTM and openSMILE; 10 s of
each are the start of TensorFlow.
"""

import pkgutil
import re
from pathlib import Path

import golden
import pretraining
import pytest

from hear_byols import variants
from hear_byols.cli.main import main
from hear_byols.opensmile import N_FEATURES
from hear_byols.weights.records import WeightRecord
from hear_byols.weights.registry import DEFAULT_MODEL, find_record

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
VARIANTS = sorted(info.name for info in pkgutil.iter_modules(variants.__path__) if not info.name.startswith("_"))
# Weights under the original's names for the variants whose files are published elsewhere.
ORIGINALS = {
    "original_cnn_byols": "default",
    "original_resnetish34_byols": "resnetish34",
    "original_cvt_hybrid": "cvt",
    "original_cvt_hybrid_500ms": "cvt",
}


def record_of(variant: str) -> WeightRecord:
    """Of the weights behind a variant."""
    return find_record(variant.removesuffix("_500ms").removesuffix("_opensmile"))


def size_of(variant: str) -> int:
    """Of the variant's embeddings, by the records of what it is made of."""
    return record_of(variant).embedding_size + (N_FEATURES if variant.endswith("_opensmile") else 0)


def assert_accepted(output: str, size: int) -> None:
    """The validator went through all its checks and had nothing to advise."""
    assert output.rstrip().endswith("Looks good!")
    assert "Model sample rate is: 16000" in output
    assert "Interval between timestamps is 50.0ms" in output
    shapes = re.findall(r"Received embedding of shape: torch.Size\((.*)\)", output)
    assert shapes == [f"[16, 41, {size}]", f"[8, {size}]"]


@pytest.mark.parametrize("arguments", [["--model", "cvt_hybrid.pth"], []], ids=["with the shipped file", "without"])
def test_the_package(kits, tmp_path: Path, arguments: list[str]) -> None:
    result = kits.run(["hear-validator", "hear_byols", *arguments], tmp_path)
    assert ("weights file: cvt_hybrid.pth" if arguments else "No weight file provided") in result.stdout
    assert_accepted(result.stdout, size_of("cvt_hybrid" if arguments else DEFAULT_MODEL))
    assert "UserWarning" not in result.stderr


def test_variants_that_need_no_download(kits, tmp_path: Path) -> None:
    names = [name for name in VARIANTS if name not in ORIGINALS]
    records = map(record_of, names)
    weights = [["--model", str(CHECKPOINTS / each.file)] * (each.source == "checkout") for each in records]
    runs = [[f"hear_byols.variants.{name}", *each] for name, each in zip(names, weights, strict=True)]
    for name, output in zip(names, kits.validate_all(runs, tmp_path), strict=True):
        assert_accepted(output, size_of(name))


def test_what_pretrain_makes(kits, tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="pre-training needs the extra: pip install hear_byols[train]")
    audio = str(pretraining.write_clips(tmp_path / "audio"))
    small = ["--encoder", "cnn", "--steps", "1", "--batch-size", "4", "--set", "head_hidden=8", "--device", "cpu"]
    assert main(["pretrain", "--data", audio, "--output", str(tmp_path / "run"), *small, "--quiet"]) == 0
    (output,) = kits.validate_all([["hear_byols", "--model", str(tmp_path / "run/encoder.pth")]], tmp_path)
    assert_accepted(output, size_of("random_cnn"))


@golden.needs_golden
def test_variants_of_the_original(kits, tmp_path: Path) -> None:
    runs = [
        [f"hear_byols.variants.{name}", "--model", str(golden.write_original_file(file, tmp_path))]
        for name, file in ORIGINALS.items()
    ]
    for name, output in zip(ORIGINALS, kits.validate_all(runs, tmp_path), strict=True):
        assert_accepted(output, size_of(name))


def test_it_would_refuse_a_broken_module(kits, tmp_path: Path) -> None:
    """The exit status that the tests above rely on does tell."""
    (tmp_path / "broken.py").write_text(
        "from hear_byols import get_scene_embeddings, get_timestamp_embeddings as good\n"
        "from hear_byols.variants.random_cnn import load_model\n\n"
        "def get_timestamp_embeddings(audio, model):\n"
        "    vectors, times = good(audio[:, :4000], model)\n"
        "    times[:, 1] += 2\n"
        "    return vectors, times\n"
    )
    with pytest.raises(AssertionError, match=r"(?s)ended with [1-9].*ModelError") as found:
        kits.run(["hear-validator", "broken"], tmp_path, PYTHONPATH=str(tmp_path))
    assert "Looks good!" not in str(found.value)
