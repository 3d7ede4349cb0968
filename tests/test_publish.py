"""Publishing: what is uploaded to a (local) Hub through the real client is what ``load_model`` gets back from there."""

import contextlib
import io
import re

import pytest
import torch
import yaml
from hub_client import CONFIG, HubClient, forbid_sockets, save_tiny, set_env, tiny_weights, vector
from hub_server import HubServer, Repo, sha256

import hear_byols
from hear_byols.cli.main import build_parser, main
from hear_byols.errors import CheckpointError, InputError, OptionError, PublishError, WeightsNotFoundError
from hear_byols.publish import add_provenance, publish, read_manifest
from hear_byols.weights.checkpoint import read_checkpoint
from hear_byols.weights.repository import model_card

PROVENANCE = {
    "name": "tiny: a\n# test",
    "description": 'Random "weights",\n---\nfor a test.',
    "notice": "Not for production.",
    "data": {"hours": 0.5, "sources": ["noise"]},
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("publish")
    with HubServer() as server, HubClient(folder, server.url) as client:
        yield server, client


@pytest.fixture
def ana(hub):
    """The server, and a client process that may write for ana and lab."""
    hub[1].value(set_env, HF_TOKEN="hf_ana", HEAR_BYOLS_OFFLINE="")
    return hub


@pytest.fixture
def path(tmp_path):
    return save_tiny(tmp_path / "w.pth")


def _run(*argv: object) -> str:
    """Run the command and return what it printed."""
    args = build_parser().parse_args(["publish", *map(str, argv)])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert args.run(args) == 0
    return printed.getvalue().strip()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_published_weights_are_what_load_model_gets_back(ana, tmp_path, suffix):
    server, client = ana
    path, repo = save_tiny(tmp_path / f"tiny{suffix}", **PROVENANCE), f"ana/model{suffix[1:]}"
    printed = client.value(_run, path, "--repo", repo)
    commit = server.repos[repo].refs["main"]
    files = server.repos[repo].commits[commit]
    weights, digest = files["model.safetensors"], sha256(files["model.safetensors"])
    assert printed == f"hf://{repo}/model.safetensors@{commit}#sha256={digest}"
    assert suffix == ".pth" or weights == path.read_bytes()
    assert len(server.repos[repo].commits) == 2  # the repository's first, and one with all files
    card = files["README.md"].decode()
    spec = re.search(r'load_model\("(.+)"\)', card)[1]
    assert spec == f"hf://{repo}/model.safetensors#sha256={digest}"
    expected = vector(hear_byols.load_model, path)
    for got in (printed, spec):
        assert client.value(vector, hear_byols.load_model, got) == expected
    assert client.value(vector, hear_byols.from_pretrained, repo) == expected
    metadata = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])
    about = {"license": "mit", "library_name": "hear_byols", "pipeline_tag": "feature-extraction"}
    assert metadata == {**about, "tags": metadata["tags"]}
    assert "cnn" in metadata["tags"]
    for words in (
        f'hear_byols.from_pretrained("{repo}")',
        "# tiny: a # test\n",
        "> Not for production.",
        "- hours: 0.5",
        '"embedding_size": 16',
        f"| model.safetensors | {len(weights)} | `{digest}` |",
    ):
        assert words in card


def test_sources_of_pre_training_become_a_table(tmp_path):
    sources = [{"name": "choir", "hours": 1.25, "licence": "CC0 | MIT"}, {"name": "street\nnoise", "hours": 2.5}]
    path = save_tiny(tmp_path / "w.pth", data=sources)
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


def test_publishing_again_changes_nothing_and_branches_are_made(ana, path):
    server, client = ana
    first = client.value(_run, path, "--repo", "ana/again", "--message", "First")
    assert client.value(_run, path, "--repo", "ana/again") == first
    repo = server.repos["ana/again"]
    assert len(repo.commits) == 2
    other = save_tiny(path, licence="Ours: ask\nus")
    printed = client.value(_run, other, "--repo", "ana/again", "--revision", "trial")
    assert repo.refs["trial"] != repo.refs["main"]
    assert repo.refs["trial"] in printed
    card = repo.commits[repo.refs["trial"]]["README.md"].decode()
    assert 'license: other\nlicense_name: "Ours: ask us"\n' in card
    assert "model.safetensors@trial#sha256=" in card


def test_private_means_private(ana, path):
    server, client = ana
    client.value(_run, path, "--repo", "ana/secret", "--private")
    assert server.repos["ana/secret"].private
    server.repos["ana/open"] = Repo({"x": b""})
    assert "is public" in client.refused(PublishError, _run, path, "--repo", "ana/open", "--private")
    assert list(server.repos["ana/open"].commits[server.repos["ana/open"].refs["main"]]) == ["x"]


def test_refusals_are_one_clear_error(ana, path):
    server, client = ana
    for env, repo, words in [
        ({"HF_TOKEN": ""}, "ana/x", "no token"),
        ({"HF_TOKEN": "hf_wrong"}, "ana/x", "401"),
        ({"HF_TOKEN": "hf_ana"}, "others/x", "may not write to 'others/x'"),
        ({"HF_TOKEN": "hf_ana", "HEAR_BYOLS_OFFLINE": "1"}, "ana/x", "HEAR_BYOLS_OFFLINE"),
    ]:
        client.value(set_env, **env)
        said = client.refused(PublishError, _run, path, "--repo", repo)
        assert said.startswith("nothing was published")
        assert words in said
        assert repo not in server.repos


def test_a_failing_hub_gets_no_commit(ana, path):
    server, client = ana
    repo = server.repos["ana/fails"] = Repo({"x": b""})
    for place in ("/commit/", "/preupload/", "/lfs/", "/files/", "/api/repos/create", "/api/validate-yaml"):
        server.faults = {place: 507}
        assert "507" in client.refused(PublishError, _run, path, "--repo", "ana/fails")
        server.faults = {}
        assert len(repo.commits) == 1


def test_dry_run_opens_no_socket_and_prints_the_card(tmp_path, capsys, monkeypatch):
    forbid_sockets(monkeypatch.setattr)
    path = save_tiny(tmp_path / "w.pth", half=True)
    assert main(["publish", str(path), "--repo", "ana/x", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("---\nlicense: mit\n")
    size = int(re.search(r"would upload model.safetensors \((\d+) bytes\) to ana/x", printed)[1])
    assert size < 1.2 * path.stat().st_size  # half precision stays half
    assert "would upload config.json" in printed
    assert list(tmp_path.iterdir()) == [path]


def _refused(path, error, match, repo="ana/x"):
    with pytest.raises(error, match=match):
        publish(path, repo, dry_run=True)


def test_useless_weights_and_those_without_a_licence_are_not_published(tmp_path):
    path, weights = tmp_path / "w.pth", tiny_weights()
    _refused(save_tiny(path, {k: torch.zeros_like(v) for k, v in weights.items()}), CheckpointError, "collapsed")
    for key in ("fc2.weight", "fc2.bias"):
        weights[key] = torch.full_like(weights[key], 3e38)
    _refused(save_tiny(path, weights), CheckpointError, "NaN or infinite")
    for licence in (None, ""):
        _refused(save_tiny(path, licence=licence), CheckpointError, "states no licence")


def test_bare_state_dicts_are_not_published(tmp_path):
    """Above all not NTT's, whose licence forbids it."""
    torch.save(hear_byols.load_model("random_resnetish34").encoder.state_dict(), tmp_path / "w.pth")
    assert read_checkpoint(tmp_path / "w.pth").schema == "original"
    _refused(tmp_path / "w.pth", CheckpointError, "bare state dict")


def test_other_things_are_not_published(tmp_path, path):
    _refused("random_cnn", OptionError, "no file")
    _refused(tmp_path / "none.pth", WeightsNotFoundError, "none.pth")
    for repo in ("x", "a/b/c", "", "/x", "https://huggingface.co/a/b"):
        _refused(path, OptionError, "owner/name", repo=repo)
    with pytest.raises(OptionError, match="branch"):
        publish(path, "ana/x", revision="../x")
    path.write_bytes(b"junk")
    _refused(path, CheckpointError, "not a checkpoint")


@pytest.fixture
def uncredited(tmp_path):
    weights = tiny_weights()
    for counter in (value for value in weights.values() if not value.is_floating_point()):
        counter.fill_(2049)  # batches that a norm has seen; float16 has no such number
    manifest = "shard,hours,licence,author,link\nbirds.tar,9,CC0,Ana,https://example.org\nrain.tar,1,CC BY 4.0,Bo,\n"
    (tmp_path / "manifest.csv").write_text(manifest)
    data = [{"name": "birds", "hours": 0.5}, {"name": "rain", "hours": 0.1}]
    return save_tiny(tmp_path / "encoder.pth", weights, half=True, name="run", data=data)


def test_credits_join_what_training_knows(uncredited, tmp_path):
    output = tmp_path / "birds.safetensors"
    options = ["--licence", "CC-BY-4.0", "--name", "birds", "--manifest", str(tmp_path / "manifest.csv")]
    assert main(["publish", str(uncredited), "--output", str(output), *options]) == 0
    before, after = read_checkpoint(uncredited), read_checkpoint(output)
    assert all(torch.equal(value, after.state_dict[name]) for name, value in before.state_dict.items())
    assert (after.config, after.provenance["licence"], after.provenance["name"]) == (CONFIG, "CC-BY-4.0", "birds")
    assert after.provenance["data"] == [
        {"name": "birds", "hours": 0.5, "licence": "CC0", "author": "Ana", "link": "https://example.org"},
        {"name": "rain", "hours": 0.1, "licence": "CC BY 4.0", "author": "Bo"},
    ]
    assert output.stat().st_size < 1.2 * uncredited.stat().st_size  # still half precision
    add_provenance(uncredited, tmp_path / "again.pth", licence="MIT")
    assert read_checkpoint(tmp_path / "again.pth").provenance["name"] == "run"  # what is not given stays


def test_a_manifest_needs_its_columns_and_every_source(uncredited, tmp_path):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("shard,licence\nbirds.tar,CC0\n")
    with pytest.raises(InputError, match="says nothing of rain"):
        add_provenance(uncredited, tmp_path / "x.pth", manifest=manifest)
    assert not (tmp_path / "x.pth").exists()
    for text in ("name\nx\n", "", "shard\nx\n"):
        manifest.write_text(text)
        with pytest.raises(InputError, match="licence"):
            read_manifest(manifest)
