"""Publishing: what is uploaded to a (local) Hub through the real client is what ``load_model`` gets back from there."""

from __future__ import annotations

import argparse
import re

import pytest
import torch
import yaml
from hub_client import HubClient
from hub_server import Fault, HubServer, Repo, sha256

import hear_byols
from hear_byols.cli.publish import add_parser
from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, OptionError, WeightsNotFoundError
from hear_byols.publish import publish
from hear_byols.weights.checkpoint import read_checkpoint, save_checkpoint
from hear_byols.weights.model_card import model_card

CONFIG = ModelConfig(EncoderConfig("cnn", 16))
PROVENANCE = {
    "name": "tiny: a\n# test",
    "description": 'Random "weights",\n---\nfor a test.',
    "licence": "MIT",
    "notice": "Not for production.",
    "data": {"hours": 0.5, "sources": ["noise"]},
}


def _weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build_encoder(CONFIG.encoder).state_dict()


def _save(path, provenance=PROVENANCE, weights=None, half=False):
    save_checkpoint(path, CONFIG, weights or _weights(), provenance, half=half)
    return path


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish")
    with HubServer() as server, HubClient(folder, server.url) as client:
        yield server, client


@pytest.fixture
def token(hub):
    """The client process may write for ana and lab."""
    hub[1].value("set_env", HF_TOKEN="hf_ana", HEAR_BYOLS_OFFLINE=None)


def _run(hub, *argv) -> str:
    """Run the command in the client process and return what it printed."""
    answer = hub[1].ask("publish", argv=[str(word) for word in argv])
    assert answer.get("value") == 0, answer
    return answer["printed"].strip()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_weights_are_what_load_model_gets_back(hub, token, tmp_path, suffix):
    server, client = hub
    path = _save(tmp_path / f"tiny{suffix}")
    repo = f"ana/model{suffix[1:]}"
    printed = _run(hub, path, "--repo", repo)
    commit = server.repos[repo].refs["main"]
    files = server.repos[repo].commits[commit]
    assert printed == f"hf://{repo}/model.safetensors@{commit}#sha256={sha256(files['model.safetensors'])}"
    assert suffix == ".pth" or files["model.safetensors"] == path.read_bytes()
    audio = torch.linspace(-1, 1, 16000)[None]
    expected = hear_byols.get_scene_embeddings(audio, hear_byols.load_model(path))[0].tolist()
    assert client.value("load", spec=printed) == expected
    assert client.value("pretrained", name=repo) == expected
    assert len(server.repos[repo].commits) == 2  # the repository's first, and one with all files
    metadata = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", files["README.md"].decode(), re.DOTALL)[1])
    assert metadata["license"] == "mit"
    assert metadata["library_name"] == "hear_byols"
    assert metadata["pipeline_tag"] == "feature-extraction"
    assert "cnn" in metadata["tags"]


def test_card_says_what_the_weights_are_and_how_to_load_them(hub, token, tmp_path):
    server, client = hub
    path = _save(tmp_path / "w.pth")
    _run(hub, path, "--repo", "lab/card")
    commit = server.repos["lab/card"].refs["main"]
    files = server.repos["lab/card"].commits[commit]
    card, weights = files["README.md"].decode(), files["model.safetensors"]
    spec = re.search(r'load_model\("(.+)"\)', card)[1]
    assert spec == f"hf://lab/card/model.safetensors#sha256={sha256(weights)}"
    client.value("load", spec=spec)
    assert 'hear_byols.from_pretrained("lab/card")' in card
    assert "# tiny: a # test\n" in card
    assert "> Not for production." in card
    assert "- hours: 0.5" in card
    assert '"embedding_size": 16' in card
    assert f"| model.safetensors | {len(weights)} | `{sha256(weights)}` |" in card


def test_sources_of_pre_training_become_a_table(tmp_path):
    sources = [{"name": "choir", "hours": 1.25, "licence": "CC0 | MIT"}, {"name": "street\nnoise", "hours": 2.5}]
    path = _save(tmp_path / "w.pth", {**PROVENANCE, "data": sources})
    card = model_card(read_checkpoint(path), path, "lab/card")
    table = """## Data
| name | hours | licence |
| --- | --- | --- |
| choir | 1.25 | CC0 \\| MIT |
| street noise | 2.5 |  |

3.8 hours in all.
"""
    assert table in card
    assert "- data" not in card


def test_publishing_again_changes_nothing_and_branches_are_made(hub, token, tmp_path):
    server, client = hub
    path = _save(tmp_path / "w.pth")
    first = _run(hub, path, "--repo", "ana/again", "--message", "First")
    assert _run(hub, path, "--repo", "ana/again") == first
    repo = server.repos["ana/again"]
    assert len(repo.commits) == 2
    other = _save(tmp_path / "w.pth", {**PROVENANCE, "licence": "Ours: ask\nus"})
    printed = _run(hub, other, "--repo", "ana/again", "--revision", "trial")
    assert repo.refs["trial"] != repo.refs["main"]
    assert repo.refs["trial"] in printed
    card = repo.commits[repo.refs["trial"]]["README.md"].decode()
    assert 'license: other\nlicense_name: "Ours: ask us"\n' in card
    assert "model.safetensors@trial#sha256=" in card
    client.value("load", spec=printed)
    client.value("load", spec=first)


def test_private_means_private(hub, token, tmp_path):
    server, client = hub
    path = _save(tmp_path / "w.pth")
    _run(hub, path, "--repo", "ana/secret", "--private")
    assert server.repos["ana/secret"].private
    server.repos["ana/open"] = Repo()
    server.repos["ana/open"].commit({"x": b""})
    kind, message = client.error("publish", argv=[str(path), "--repo", "ana/open", "--private"])
    assert kind == "PublishError"
    assert "is public" in message
    assert list(server.repos["ana/open"].commits[server.repos["ana/open"].refs["main"]]) == ["x"]


@pytest.mark.parametrize(
    ("env", "repo", "words"),
    [
        ({"HF_TOKEN": None}, "ana/x", "no token"),
        ({"HF_TOKEN": "hf_wrong"}, "ana/x", "401"),
        ({"HF_TOKEN": "hf_reader"}, "ana/x", "may not write to 'ana/x'"),
        ({"HF_TOKEN": "hf_ana"}, "others/x", "may not write to 'others/x'"),
        ({"HF_TOKEN": "hf_ana", "HEAR_BYOLS_OFFLINE": "1"}, "ana/x", "HEAR_BYOLS_OFFLINE"),
    ],
)
def test_refusals_are_one_clear_error(hub, token, tmp_path, env, repo, words):
    server, client = hub
    path = _save(tmp_path / "w.pth")
    client.value("set_env", **env)
    kind, message = client.error("publish", argv=[str(path), "--repo", repo])
    assert kind == "PublishError"
    assert "nothing was published" in message
    assert words in message
    assert "\n" not in message
    assert repo not in server.repos


@pytest.mark.parametrize("place", ["/commit/", "/preupload/", "/lfs/", "/api/repos/create", "/api/validate-yaml"])
def test_a_failing_hub_gets_no_commit(hub, token, tmp_path, place):
    server, client = hub
    path = _save(tmp_path / "w.pth")
    server.repos["ana/fails"] = Repo()
    server.repos["ana/fails"].commit({"x": b""})
    server.faults.append(Fault(place, 507))
    try:
        kind, message = client.error("publish", argv=[str(path), "--repo", "ana/fails"])
    finally:
        server.faults.clear()
    assert (kind, message.count("\n")) == ("PublishError", 0)
    assert "507" in message
    assert len(server.repos["ana/fails"].commits) == 1


def test_dry_run_opens_no_socket_and_prints_the_card(tmp_path, capsys, monkeypatch):
    def refuse(*_):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    path = _save(tmp_path / "w.pth", half=True)
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    args = parser.parse_args(["publish", str(path), "--repo", "ana/x", "--dry-run"])
    assert args.run(args) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("---\nlicense: mit\n")
    size = int(re.search(r"would upload model.safetensors \((\d+) bytes\) to ana/x", printed)[1])
    assert size < 1.2 * path.stat().st_size  # half precision stays half
    assert "would upload config.json" in printed
    assert list(tmp_path.iterdir()) == [path]


# What is not published


def _refused(path, error, match, repo="ana/x"):
    with pytest.raises(error, match=match):
        publish(path, repo, dry_run=True)


def test_useless_weights_are_not_published(tmp_path):
    weights = {key: torch.zeros_like(value) for key, value in _weights().items()}
    _refused(_save(tmp_path / "w.pth", weights=weights), CheckpointError, "collapsed")
    weights = _weights()
    weights["fc2.weight"] = torch.full_like(weights["fc2.weight"], 3e38)
    weights["fc2.bias"] = torch.full_like(weights["fc2.bias"], 3e38)
    _refused(_save(tmp_path / "w.pth", weights=weights), CheckpointError, "NaN or infinite")


@pytest.mark.parametrize("licence", [None, ""])
def test_weights_without_a_licence_are_not_published(tmp_path, licence):
    _refused(_save(tmp_path / "w.pth", {"name": "x", "licence": licence}), CheckpointError, "states no licence")


def test_bare_state_dicts_are_not_published(tmp_path):
    """Above all not NTT's, whose licence forbids it."""
    state = {f"encoder.{key}": value for key, value in _original_names(_weights()).items()}
    torch.save(state, tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").schema == "original"
    _refused(tmp_path / "w.pth", CheckpointError, "bare state dict")


def _original_names(state):
    places = {"blocks.0.": (0, 1), "blocks.1.": (4, 5), "blocks.2.": (8, 9)}
    names = {"fc1.": "fc.0.", "fc2.": "fc.3."}
    for ours, (conv, norm) in places.items():
        names |= {f"{ours}conv.": f"features.{conv}.", f"{ours}norm.": f"features.{norm}."}
    return {
        next(theirs + k[len(ours) :] for ours, theirs in names.items() if k.startswith(ours)): v
        for k, v in state.items()
    }


def test_other_things_are_not_published(tmp_path):
    path = _save(tmp_path / "w.pth")
    _refused("random_cnn", OptionError, "no file")
    _refused(tmp_path / "none.pth", WeightsNotFoundError, "none.pth")
    for repo in ("x", "a/b/c", "", "/x", "https://huggingface.co/a/b"):
        _refused(path, OptionError, "owner/name", repo=repo)
    with pytest.raises(OptionError, match="branch"):
        publish(path, "ana/x", revision="../x")
    (tmp_path / "w.pth").write_bytes(b"junk")
    _refused(tmp_path / "w.pth", CheckpointError, "not a checkpoint")
