"""Credits: what an author adds to a checkpoint before it is published."""

import pytest
import torch

from hear_byols.cli.main import main
from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import InputError
from hear_byols.weights.checkpoint import read_checkpoint, save_checkpoint
from hear_byols.weights.provenance import add_provenance, read_manifest

CONFIG = ModelConfig(EncoderConfig("cnn", 16))
MANIFEST = "shard,hours,licence,author,link\nbirds.tar,9,CC0,Ana,https://example.org\nrain.tar,1,CC BY 4.0,Bo,\n"


@pytest.fixture
def checkpoint(tmp_path):
    data = [{"name": "birds", "hours": 0.5}, {"name": "rain", "hours": 0.1}]
    path = tmp_path / "encoder.pth"
    weights = build_encoder(CONFIG.encoder).state_dict()
    for counter in (value for value in weights.values() if not value.is_floating_point()):
        counter.fill_(2049)  # batches that a norm has seen; float16 has no such number
    save_checkpoint(path, CONFIG, weights, {"name": "run", "data": data}, half=True)
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    return path


def test_credits_join_what_training_knows(checkpoint, tmp_path):
    output = tmp_path / "birds.safetensors"
    options = ["--licence", "CC-BY-4.0", "--name", "birds", "--manifest", str(tmp_path / "manifest.csv")]
    assert main(["publish", str(checkpoint), "--output", str(output), *options]) == 0
    before, after = read_checkpoint(checkpoint), read_checkpoint(output)
    assert all(torch.equal(value, after.state_dict[name]) for name, value in before.state_dict.items())
    assert after.config == before.config
    assert after.provenance["licence"] == "CC-BY-4.0"
    assert after.provenance["data"] == [
        {"name": "birds", "hours": 0.5, "licence": "CC0", "author": "Ana", "link": "https://example.org"},
        {"name": "rain", "hours": 0.1, "licence": "CC BY 4.0", "author": "Bo"},
    ]
    assert output.stat().st_size < 1.2 * checkpoint.stat().st_size  # still half precision


def test_what_is_not_given_stays(checkpoint, tmp_path):
    add_provenance(checkpoint, tmp_path / "again.pth", licence="MIT")
    assert read_checkpoint(tmp_path / "again.pth").provenance["name"] == "run"


def test_a_source_that_the_manifest_lacks_is_named(checkpoint, tmp_path):
    (tmp_path / "manifest.csv").write_text("shard,licence\nbirds.tar,CC0\n")
    with pytest.raises(InputError, match="says nothing of rain"):
        add_provenance(checkpoint, tmp_path / "x.pth", manifest=tmp_path / "manifest.csv")
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.parametrize("text", ["name\nx\n", "", "shard\nx\n"])
def test_a_manifest_needs_its_columns(tmp_path, text):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match="licence"):
        read_manifest(tmp_path / "m.csv")
