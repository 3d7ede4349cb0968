"""Finding and fetching weights: order, verification, interruption, concurrency, offline, the original, the Hub."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import golden
import pytest
import torch
from hub_client import HubClient
from hub_server import Fault, HubServer, Repo, git_blob, sha256

import hear_byols
from hear_byols.config import EncoderConfig, ModelConfig
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, DownloadError, OptionError, WeightsNotFoundError
from hear_byols.hear import load_model
from hear_byols.weights import original, registry
from hear_byols.weights.checkpoint import read_checkpoint, save_checkpoint
from hear_byols.weights.locate import cache_dir, local_file, locate, shipped_dir

CHECKOUT = Path(__file__).resolve().parents[1] / "checkpoints"
CONTENT = bytes(range(256)) * 512  # 128 KiB
LARGE = bytes(24 << 20)  # the Hub's client writes in pieces of 10 MiB


@pytest.fixture
def server():
    with HubServer() as server:
        server.files["weights.pth"] = CONTENT
        yield server


@pytest.fixture
def online(monkeypatch, tmp_path):
    """Downloads are allowed, and the cache is empty."""
    monkeypatch.delenv("HEAR_BYOLS_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache"


@pytest.fixture
def record(server, monkeypatch):
    """A record of the zoo whose file lies on the local server."""
    record = registry.WeightRecord(
        name="tiny",
        encoder="cnn",
        embedding_size=8,
        source="url",
        file="tiny.pth",
        location=f"{server.url}/files/weights.pth",
        size=len(CONTENT),
        sha256=sha256(CONTENT),
        git_blob=git_blob(CONTENT),
    )
    return _register(monkeypatch, record)


def _register(monkeypatch, record):
    monkeypatch.setitem(registry._BY_NAME, record.name, record)
    return record


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_name_never_means_a_file_by_accident(tmp_path, monkeypatch):
    """Only what has a suffix or a slash is a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("cnn_hybrid", "mine", "mine.pth"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    assert locate("cnn_hybrid").record.name == "cnn_hybrid"
    assert len(load_model("random_cnn+random_cvt").parts) == 2  # names join as ever
    assert locate("./cnn_hybrid").path == Path("./cnn_hybrid")
    assert locate("mine.pth").path == locate(Path("mine.pth")).path == Path("mine.pth")
    assert locate(Path("mine")).path == Path("mine")
    with pytest.raises(WeightsNotFoundError, match=r"The file of this name here is \./mine"):
        locate("mine")


def tiny_checkpoint(path: Path, seed: int = 0) -> bytes:
    """Write a small, good checkpoint and return its bytes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build_encoder(EncoderConfig("cnn", 8))
    provenance = {"name": "tiny", "licence": "MIT", "description": "random weights"}
    save_checkpoint(path, ModelConfig(EncoderConfig("cnn", 8)), encoder.state_dict(), provenance)
    return path.read_bytes()


# The zoo


def test_every_shipped_record_matches_its_file():
    """Says the right values when record and file disagree."""
    for name in registry.list_models():
        record = registry.find_record(name)
        if record.source not in ("shipped", "checkout"):
            continue
        path = CHECKOUT / record.file if record.source == "checkout" else local_file(record)
        assert path is not None, f"{record.file} of record {name!r} is not in {shipped_dir().name}/"
        content = path.read_bytes()
        assert (record.size, record.sha256) == (len(content), sha256(content)), (
            f"record {name!r} and {record.file} disagree; the file has size={len(content)}, sha256={sha256(content)!r}"
        )
        config = read_checkpoint(path).config.encoder
        assert (record.encoder, record.embedding_size) == (config.name, build_encoder(config).embedding_size)
        assert record.licence
        assert record.data


def test_records_are_complete():
    for name in registry.list_models():
        record = registry.find_record(name)
        assert record.name == name
        assert record.source in ("shipped", "checkout", "url", "hub", "random", "opensmile")
        if record.source in ("url", "hub"):
            assert record.sha256 or record.git_blob
            assert record.location.startswith(("https://", "hf://"))
            assert record.licence
    assert registry.find_record("cvt_hybrid.pth").name == "cvt_hybrid"
    assert registry.find_record("nothing") is None
    assert registry.list_models("original_*") == [
        "original_cnn_byols",
        "original_cvt_hybrid",
        "original_resnetish34_byols",
    ]


# Order of resolution


def test_a_path_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cvt_hybrid.pth").write_bytes(b"mine")
    Path("sub").mkdir()
    Path("sub/w.pth").write_bytes(b"mine")
    assert locate("cvt_hybrid.pth").path == Path("cvt_hybrid.pth")
    assert locate("cvt_hybrid.pth").record is None
    assert locate(tmp_path / "sub" / "w.pth").path == tmp_path / "sub" / "w.pth"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/sub/w.pth").path == tmp_path / "sub" / "w.pth"


def test_a_folder_named_like_a_model_does_not_hide_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("random_cnn").mkdir()
    assert locate("random_cnn").record.name == "random_cnn"


def test_shipped_goes_before_cache_and_is_verified(tmp_path, monkeypatch, online):
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "w.pth").write_bytes(b"shipped")
    (shipped / "bare.pth").write_bytes(b"no record")
    online.mkdir()
    (online / "w.pth").write_bytes(b"cached")
    monkeypatch.setattr("hear_byols.weights.locate.shipped_dir", lambda: shipped)
    record = registry.WeightRecord("w", "cnn", 8, "shipped", "w.pth", size=7, sha256=sha256(b"shipped"))
    _register(monkeypatch, record)
    assert locate("w").path == shipped / "w.pth"
    assert locate("bare.pth").path == shipped / "bare.pth"
    (shipped / "w.pth").write_bytes(b"spoiled")
    with pytest.raises(CheckpointError, match=r"w\.pth is not the file of record 'w': its sha256 is"):
        locate("w")
    (shipped / "w.pth").unlink()
    with pytest.raises(WeightsNotFoundError, match="should be shipped"):
        locate("w")


def test_weights_of_the_checkout_are_taken_from_the_cache_elsewhere(tmp_path, monkeypatch, online):
    monkeypatch.setattr("hear_byols.weights.locate.shipped_dir", lambda: tmp_path)
    record = registry.WeightRecord("w", "cnn", 8, "checkout", "w.pth", size=3, sha256=sha256(b"our"))
    _register(monkeypatch, record)
    with pytest.raises(WeightsNotFoundError, match=f"not of the installed package; put it into {online}"):
        locate("w")
    online.mkdir()
    (online / "w.pth").write_bytes(b"our")
    assert locate("w").path == online / "w.pth"
    (tmp_path / "w.pth").write_bytes(b"our")
    assert locate("w").path == tmp_path / "w.pth"


def test_cache_goes_before_download(server, record, online):
    online.mkdir()
    (online / "tiny.pth").write_bytes(CONTENT)
    assert locate("tiny").path == online / "tiny.pth"
    assert server.count() == 0


def test_home_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("HEAR_BYOLS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "hear_byols"


def test_empty_name_is_the_default():
    assert registry.DEFAULT_MODEL in registry.list_models()


def test_unknown_names():
    for spec, words in [
        ("cvt_hybird", ("did you mean cvt_hybrid",)),
        ("original_cvt", ("did you mean", "original_cvt_hybrid")),
        ("nowhere/weights.pth", ("nowhere/weights.pth", "not an existing file")),
        ("ana/tiny", ("from_pretrained('ana/tiny')", "hf://ana/tiny/model.safetensors")),
        ("~nobody/of/this/name.pth", ("not an existing file",)),
        ("x" * 5000, ("not an existing file",)),
        ("a\0b", ("not an existing file",)),
    ]:
        with pytest.raises(WeightsNotFoundError) as caught:
            hear_byols.load_model(spec)
        for word in (*words, "random_cvt", "hf://owner/repo/file"):
            assert word in str(caught.value)
        assert len(str(caught.value)) < 1500


def test_folder(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="is a folder"):
        locate(tmp_path)


def test_names_of_a_wrong_type():
    for spec in [None, 3, b"bytes", Path]:
        with pytest.raises(OptionError, match="string or a path"):
            locate(spec)


# Downloads by URL


def test_download_is_verified_cached_and_not_repeated(server, record, online):
    path = locate("tiny").path
    assert path == online / "tiny.pth"
    assert path.read_bytes() == CONTENT
    assert locate("tiny.pth").path == path
    assert server.requests == {("GET", "/files/weights.pth"): 1}
    assert _files(online) == ["tiny.pth"]


def test_bad_download_leaves_nothing(server, record, online):
    for fault, error, words in [
        ("cut", DownloadError, "broke off"),
        ("wrong", DownloadError, "its sha256 is"),
        ("short", DownloadError, "65536 bytes instead of 131072"),
        (404, WeightsNotFoundError, "answered 404"),
        (403, DownloadError, "answered 403"),
        (500, DownloadError, "answered 500"),
    ]:
        server.faults = [Fault("weights", fault)]
        with pytest.raises(error) as caught:
            locate("tiny")
        message = str(caught.value)
        assert words in message
        assert "nothing was kept" in message
        assert record.location in message
        assert _files(online) == []
        server.faults = []
        path = locate("tiny").path
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_git_blob_alone_verifies(server, record, online, monkeypatch):
    pinned = _register(monkeypatch, replace(record, size=None, sha256=""))
    server.faults = [Fault("weights", "wrong")]
    with pytest.raises(DownloadError, match="git blob id"):
        locate("tiny")
    server.faults = []
    assert locate("tiny").path.read_bytes() == CONTENT
    _register(monkeypatch, replace(pinned, git_blob="0" * 40))
    with pytest.raises(CheckpointError, match=f"its git blob id is {git_blob(CONTENT)} instead of 0000"):
        locate("tiny")


def test_git_blob_id_is_gits():
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


def test_corrupted_cache_is_noticed(server, record, online):
    path = locate("tiny").path
    for damaged in (CONTENT[:-1], b"\1" + CONTENT[1:], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"tiny\.pth is not the file of record 'tiny'.*delete it"):
            locate("tiny")
    path.unlink()
    assert locate("tiny").path.read_bytes() == CONTENT


def test_unreachable_places(record, online, monkeypatch):
    for location in ["http://127.0.0.1:1/x", "nonsense", "ftp://127.0.0.1:1/x", "http://[bad/x"]:
        _register(monkeypatch, replace(record, location=location))
        with pytest.raises(DownloadError, match="could not be fetched"):
            locate("tiny")
        assert _files(online) == []


def test_a_server_that_says_nothing_is_given_up(record, online, monkeypatch):
    monkeypatch.setenv("HEAR_BYOLS_DOWNLOAD_SECONDS", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _register(monkeypatch, replace(record, location=f"http://127.0.0.1:{silent.getsockname()[1]}/x"))
        with pytest.raises(DownloadError, match=r"timed out: not whole after 0\.2 s"):
            locate("tiny")
    assert _files(online) == []


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_drips_is_given_up(record, online, monkeypatch, start):
    """In the head of its answer or in the body; each byte is in time."""
    monkeypatch.setenv("HEAR_BYOLS_DOWNLOAD_SECONDS", "0.5")
    with socket.create_server(("127.0.0.1", 0)) as dripping:

        def drip():
            connection = dripping.accept()[0]
            with connection, suppress(OSError):
                connection.sendall(start)
                for _ in range(100):
                    connection.sendall(b"x")
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        _register(monkeypatch, replace(record, location=f"http://127.0.0.1:{dripping.getsockname()[1]}/x"))
        with pytest.raises(DownloadError, match="timed out"):
            locate("tiny")
    assert _files(online) == []


def test_a_time_limit_that_is_none(record, online, monkeypatch):
    for seconds in ["0", "-1", "soon", "nan", "1e300"]:
        monkeypatch.setenv("HEAR_BYOLS_DOWNLOAD_SECONDS", seconds)
        with pytest.raises(OptionError, match="HEAR_BYOLS_DOWNLOAD_SECONDS must be"):
            locate("tiny")


@pytest.mark.parametrize("announced", [True, False])
def test_no_more_is_taken_than_the_record_says(record, online, monkeypatch, announced):
    """A server that sends without end is left after the record's size."""
    sent = []
    with socket.create_server(("127.0.0.1", 0)) as endless:

        def send():
            connection = endless.accept()[0]
            with connection, suppress(OSError):
                length = f"Content-Length: {1 << 40}\r\n" if announced else ""
                connection.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
                while True:
                    connection.sendall(bytes(1 << 16))
                    sent.append(1 << 16)

        threading.Thread(target=send, daemon=True).start()
        _register(monkeypatch, replace(record, location=f"http://127.0.0.1:{endless.getsockname()[1]}/x"))
        said = f"has {1 << 40} bytes, {len(CONTENT)} are the most" if announced else "has more than"
        with pytest.raises(DownloadError, match=said):
            locate("tiny")
    assert sum(sent) < 50 * len(CONTENT)
    assert _files(online) == []


@pytest.mark.parametrize("answer", [200, 404, 500, "refused", "no address"])
def test_credentials_are_sent_and_never_shown(server, online, monkeypatch, caplog, answer):
    """Neither in the message nor in the error's causes nor in the log; a password may hold any letter."""
    caplog.set_level("DEBUG")
    place = {"refused": "127.0.0.1:1", "no address": "127.0.0.1:port"}.get(answer, server.url.split("//")[1])
    monkeypatch.setenv("HEAR_BYOLS_ORIGINAL_MIRROR", f"http://ana:s3%40cret@{place}/files/mirror/")
    server.files[f"mirror/{registry.find_record('original_cnn_byols').file}"] = CONTENT
    server.faults = [Fault("mirror", answer)] if isinstance(answer, int) and answer != 200 else []
    with pytest.raises((DownloadError, WeightsNotFoundError)) as caught:
        locate("original_cnn_byols")
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + str(caught.value)
    assert "***@" in shown
    for secret in ("s3%40cret", "s3@cret", "cret", "ana:"):
        assert secret not in shown
    if isinstance(answer, int):
        assert server.logins == ["ana:s3@cret"]


def test_cache_that_cannot_be_written(record, monkeypatch, online, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(DownloadError, match="set HEAR_BYOLS_HOME"):
        locate("tiny")


def _forked(task) -> int:
    """Run a task in a child process and return the child's id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            task()
            status = 0
        finally:
            os._exit(status)
    return child


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_download_leaves_nothing_that_is_taken(server, record, online):
    server.faults = [Fault("weights", "slow")]
    child = _forked(lambda: locate("tiny"))
    deadline = time.monotonic() + 20
    while not any(path.stat().st_size for path in online.glob(".*.part*")):  # in the middle of writing
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (online / "tiny.pth").exists()
    (leftover,) = online.iterdir()
    assert 0 < leftover.stat().st_size < len(CONTENT)
    server.faults = []
    assert locate("tiny").path.read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_eight_processes_at_once(server, record, online):
    children = [_forked(lambda: locate("tiny")) for _ in range(8)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 8
    assert _files(online) == ["tiny.pth"]
    assert (online / "tiny.pth").read_bytes() == CONTENT


def test_eight_threads_at_once(server, record, online):
    found = []
    threads = [threading.Thread(target=lambda: found.append(locate("tiny").path)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [online / "tiny.pth"] * 8
    assert _files(online) == ["tiny.pth"]
    assert found[0].read_bytes() == CONTENT


# Offline


@pytest.mark.parametrize("variable", ["HEAR_BYOLS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_opens_no_socket(server, record, online, monkeypatch, variable):
    for value in ["1", "true", "YES", "on"]:

        def refuse(*_):
            raise AssertionError("a socket was opened")

        monkeypatch.setenv(variable, value)
        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        with pytest.raises(WeightsNotFoundError) as caught:
            locate("tiny")
        for word in ("'tiny' is not cached", str(online / "tiny.pth"), record.location, "HEAR_BYOLS_OFFLINE"):
            assert word in str(caught.value)
        online.mkdir(exist_ok=True)
        (online / "tiny.pth").write_bytes(CONTENT)
        assert locate("tiny").path == online / "tiny.pth"
        (online / "tiny.pth").write_bytes(b"damaged")
        with pytest.raises(CheckpointError):
            locate("tiny")
        monkeypatch.setenv(variable, "0")
        (online / "tiny.pth").unlink()
        with pytest.raises(AssertionError, match="a socket was opened"):  # the guard works
            locate("tiny")
        assert server.count() == 0


# The original's files


@golden.needs_golden
def test_the_originals_file_is_fetched_from_the_mirror_verified_and_read(server, online, monkeypatch, tmp_path):
    content = golden.write_original_file("cvt", tmp_path).read_bytes()
    true = registry.find_record("original_cvt_hybrid")
    server.files[f"mirror/{true.file}"] = content
    monkeypatch.setenv("HEAR_BYOLS_ORIGINAL_MIRROR", f"{server.url}/files/mirror/")
    with pytest.raises(DownloadError, match=f"git blob id is {git_blob(content)} instead of {true.git_blob}"):
        hear_byols.load_model("original_cvt_hybrid")  # our made-up weights are not the published ones
    assert _files(online) == []
    _register(monkeypatch, replace(true, git_blob=git_blob(content)))
    model = hear_byols.load_model("original_cvt_hybrid")
    assert server.count(true.file) == 2
    audio = torch.from_numpy(golden.array("audio"))[:1]
    vectors = hear_byols.get_scene_embeddings(audio, model)
    golden.assert_equal_to(vectors, golden.array("cvt_scene_single")[:1])
    monkeypatch.setenv("HEAR_BYOLS_OFFLINE", "1")
    again = hear_byols.load_model("original_cvt_hybrid")
    assert torch.equal(hear_byols.get_scene_embeddings(audio, again), vectors)
    assert server.count(true.file) == 2


def test_without_a_mirror_the_pinned_source_is_asked(online, monkeypatch):
    asked = []

    def refuse(url, timeout):
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for name in registry.list_models("original_*"):
        with pytest.raises(DownloadError, match="no network here"):
            locate(name)
        assert asked.pop() == registry.ORIGINAL_SOURCE + registry.find_record(name).file
    assert "115fd81235d2c14ddab4bcf55ed79250711c2a2c" in registry.ORIGINAL_SOURCE


@golden.needs_golden
def test_every_key_of_the_original_converts():
    for name in ["default", "default512", "resnetish34", "clstm", "cvt"]:
        specs = json.loads((golden.FOLDER / "state_dicts.json").read_text())[name]
        with torch.device("meta"):
            state = {key: torch.empty(shape, dtype=getattr(torch, dtype)) for key, shape, dtype in specs}
            config = original.recognize(state)
            expected = build_encoder(config).state_dict()
        converted = original.convert(state, config.name)
        assert config.name == golden.ENCODER_OF[name]
        assert {key: value.shape for key, value in converted.items()} == {key: v.shape for key, v in expected.items()}
        assert {key: value.dtype for key, value in converted.items()} == {key: v.dtype for key, v in expected.items()}


@golden.needs_golden
@pytest.mark.parametrize("name", ["default512", "cvt"])
def test_wrapped_state_dicts(tmp_path, name):
    for wrap in [
        lambda state: {"state_dict": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {f"encoder.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"module.encoder.{k}": v for k, v in state.items()}, "epoch": 100},
        lambda state: {**{f"online.{k}": v for k, v in state.items()}, "predictor.weight": torch.ones(2)},
    ]:
        state = golden.original_state_dict(name)
        torch.save(state, tmp_path / "bare.pth")
        torch.save(wrap(state), tmp_path / "wrapped.pth")
        bare, wrapped = read_checkpoint(tmp_path / "bare.pth"), read_checkpoint(tmp_path / "wrapped.pth")
        assert wrapped.config == bare.config
        assert wrapped.state_dict.keys() == bare.state_dict.keys()
        assert all(torch.equal(wrapped.state_dict[key], bare.state_dict[key]) for key in bare.state_dict)


@golden.needs_golden
def test_sizes_of_the_cnn_and_the_window_of_ntts_files(tmp_path):
    for size in [512, 1024, 2048]:
        specs = json.loads((golden.FOLDER / "state_dicts.json").read_text())["default512"]
        state = {
            key: golden.golden_value(key, [size if n == 512 and key.startswith("fc") else n for n in shape])
            for key, shape, _ in specs
        }
        if size != 512:  # fc.0 reads 64 channels x 8 bands, whatever the size
            state["fc.0.weight"] = golden.golden_value("fc.0.weight", [size, 512])
        torch.save(state, tmp_path / "w.pth")
        model = hear_byols.load_model(tmp_path / "w.pth", win_length=1024)
        assert model.config.frontend.win_length == 1024
        assert model.scene_embedding_size == size
        assert hear_byols.get_scene_embeddings(torch.linspace(-1, 1, 16000)[None], model).shape == (1, size)
        assert hear_byols.load_model(tmp_path / "w.pth").config.frontend.win_length == 400


# The Hub, through its own client


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A server with one repository of two revisions, and a client process."""
    folder = tmp_path_factory.mktemp("hub")
    first, second = tiny_checkpoint(folder / "a.pth", seed=1), tiny_checkpoint(folder / "b.pth", seed=2)
    with HubServer() as server:
        repo = server.repos["lab/models"] = Repo()
        server.old = repo.commit({"w.pth": first, "sub/x.pth": first, "README.md": b"hello"})
        repo.refs["v1"] = repo.refs["refs/pr/1"] = server.old
        server.new = repo.commit({"w.pth": second})
        server.first, server.second = first, second
        server.repos["lab/secret"] = Repo(private=True)
        server.repos["lab/secret"].commit({"w.pth": first})
        with HubClient(folder, server.url) as client:
            yield server, client, folder


@pytest.fixture
def hub_faults(hub):
    yield hub[0].faults
    hub[0].faults.clear()


def _fresh(hub, content: bytes) -> str:
    """A repository that no test has touched: its name."""
    server = hub[0]
    name = f"lab/repo{len(server.repos)}"
    server.repos[name] = Repo()
    server.repos[name].commit({"w.pth": content})
    return name


def test_hub_file_loads_by_branch_tag_commit_and_reference(hub):
    server, client, _ = hub
    cases = {
        "hf://lab/models/w.pth": server.second,
        "hf://lab/models/w.pth@main": server.second,
        "hf://lab/models/w.pth@v1": server.first,
        "hf://lab/models/w.pth@refs/pr/1": server.first,
        f"hf://lab/models/w.pth@{server.old}": server.first,
        f"hf://lab/models/w.pth@{server.new}#sha256={sha256(server.second)}": server.second,
        f"hf://lab/models/sub/x.pth@v1#sha256={sha256(server.first).upper()}": server.first,
    }
    for spec, content in cases.items():
        assert Path(client.value("locate", spec=spec)).read_bytes() == content, spec
    vectors = client.value("load", spec="hf://lab/models/w.pth@v1")
    assert len(vectors) == 8
    assert vectors != client.value("load", spec="hf://lab/models/w.pth@main")


def test_pinned_hub_file_is_asked_for_once(hub):
    server, client, _ = hub
    name = _fresh(hub, server.first + b"once")
    spec = f"hf://{name}/w.pth@{server.repos[name].refs['main']}"
    path = client.value("locate", spec=spec)
    n = server.count()
    assert client.value("locate", spec=spec) == path
    assert server.count() == n


def test_wrong_hub_specs(hub):
    for spec, error, words in [
        ("hf://lab/nothing/w.pth", "WeightsNotFoundError", "no repository 'lab/nothing'"),
        ("hf://lab/secret/w.pth", "WeightsNotFoundError", "it is private"),
        ("hf://lab/models/none.pth", "WeightsNotFoundError", "no file 'none.pth'"),
        ("hf://lab/models/w.pth@v9", "WeightsNotFoundError", "no revision 'v9'"),
        ("hf://lab/models", "OptionError", "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth#sha256=12", "OptionError", "64 hex"),
        ("hf://lab/models/../../w.pth", "OptionError", "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth@../../x", "OptionError", "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth@", "OptionError", "hf://owner/repo/file.pth@revision"),
        ("hf://-lab-/mo--dels/w.pth", "OptionError", "mo--dels"),
        ("hf://lab/models/README.md", "CheckpointError", "not a checkpoint"),
    ]:
        kind, message = hub[1].error("load", spec=spec)
        assert kind == error
        assert words in message
        assert "\n" not in message


def test_wrong_digest_of_a_good_hub_file_is_refused_and_the_cache_stays(hub):
    server, client, _ = hub
    spec = "hf://lab/models/w.pth@v1"
    path = Path(client.value("locate", spec=spec))
    kind, message = client.error("load", spec=f"{spec}#sha256={'0' * 64}")
    assert kind == "DownloadError"
    assert f"the file's sha256 is {sha256(server.first)}" in message
    assert path.read_bytes() == server.first


def test_wrong_content_from_the_hub_is_removed(hub, hub_faults):
    server, client, folder = hub
    content = server.first + b"wrong"
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    hub_faults.append(Fault(f"/cdn/{sha256(content)}", "wrong"))
    kind, message = client.error("locate", spec=spec)
    assert kind == "DownloadError"
    assert "not what the Hub announced" in message
    assert not list((folder / "hf").rglob(sha256(content)))
    hub_faults.clear()
    assert Path(client.value("locate", spec=spec)).read_bytes() == content


@pytest.mark.parametrize("place", ["snapshots", "blobs"])
def test_a_link_out_of_the_hubs_cache_is_neither_loaded_nor_deleted(hub, tmp_path, place):
    """Not even where its name says that its content is damaged."""
    server, client, _ = hub
    content = server.first + place.encode()
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    path = Path(client.value("locate", spec=spec))
    own = tmp_path / sha256(content)  # named as the cache would name it
    own.write_bytes(b"mine")
    link = path if place == "snapshots" else path.resolve()
    link.unlink()
    link.symlink_to(own)
    kind, message = client.error("locate", spec=spec)
    assert kind == "CheckpointError"
    assert str(own) in message
    assert own.read_bytes() == b"mine"


def test_damaged_hub_cache_is_noticed(hub):
    server, client, _ = hub
    content = server.first + b"damaged later"
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    path = Path(client.value("locate", spec=spec))
    path.write_bytes(content[:-1])
    assert client.error("locate", spec=spec)[0] == "DownloadError"
    assert Path(client.value("locate", spec=spec)).read_bytes() == content


def test_bad_hub_downloads_leave_nothing(hub, hub_faults):
    for kind in ["cut", "short", 500]:
        server, client, folder = hub
        content = server.first + str(kind).encode()
        spec = f"hf://{_fresh(hub, content)}/w.pth"
        hub_faults.append(Fault(f"/cdn/{sha256(content)}", kind))
        error, message = client.error("locate", spec=spec)
        assert error == "DownloadError"
        assert "nothing was kept" in message
        assert not list((folder / "hf").rglob(sha256(content)))
        hub_faults.clear()
        assert Path(client.value("locate", spec=spec)).read_bytes() == content


def test_cut_hub_download_is_resumed(hub, hub_faults):
    """Newer clients do so at once, older ones when called again."""
    server, client, _ = hub
    content = server.first + b"resumed" + LARGE
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    hub_faults.append(Fault(f"/cdn/{sha256(content)}", "cut once"))
    client.ask("locate", spec=spec)
    assert Path(client.value("locate", spec=spec)).read_bytes() == content
    assert any(server.ranges[sha256(content)])


def test_eight_processes_want_one_hub_file(hub):
    server, client, folder = hub
    content = server.first + b"eight"
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    assert client.value("many", spec=spec, n=8) == [0] * 8
    assert [path.name for path in (folder / "hf").rglob(f"*{sha256(content)}*") if path.suffix != ".lock"] == [
        sha256(content)
    ]
    assert Path(client.value("locate", spec=spec)).read_bytes() == content


def _check_offline(offline, server, cached: str) -> None:
    """What is cached is found by any revision that was resolved, the rest is a clear error; all without a socket."""
    offline.value("forbid_sockets")
    for spec in (cached, f"{cached}#sha256={sha256(server.first)}", "hf://lab/models/w.pth@v1"):
        assert Path(offline.value("locate", spec=spec)).read_bytes() == server.first
    for spec in ("hf://lab/models/w.pth@v7", "hf://lab/other/w.pth"):
        kind, message = offline.error("locate", spec=spec)
        assert kind == "WeightsNotFoundError"
        assert spec in message
        assert "offline" in message


def test_offline_by_the_clients_variable(hub):
    server, client, folder = hub
    cached = f"hf://lab/models/w.pth@{server.old}"
    client.value("locate", spec=cached)
    client.value("locate", spec="hf://lab/models/w.pth@v1")
    n = server.count()
    with HubClient(folder, server.url, HF_HUB_OFFLINE="1") as offline:  # the client reads this one when imported
        _check_offline(offline, server, cached)
    assert server.count() == n


def test_unreachable_hub_and_offline_by_our_variable(hub):
    """Without a Hub, cached files are used and others are a clear error; with our variable nobody even tries."""
    server, client, folder = hub
    cached = f"hf://lab/models/w.pth@{server.old}"
    client.value("locate", spec=cached)
    client.value("locate", spec="hf://lab/models/w.pth@v1")
    with HubClient(folder, "http://127.0.0.1:1") as lost:
        assert Path(lost.value("locate", spec="hf://lab/models/w.pth@v1")).read_bytes() == server.first
        kind, message = lost.error("locate", spec=f"hf://{_fresh(hub, server.first)}/w.pth")
        assert kind == "DownloadError"
        assert "could not be reached" in message
        lost.value("set_env", HEAR_BYOLS_OFFLINE="1")
        _check_offline(lost, server, cached)


def test_killed_hub_download_leaves_nothing_that_is_taken(hub, hub_faults):
    server, client, folder = hub
    content = server.first + b"killed" + LARGE
    spec = f"hf://{_fresh(hub, content)}/w.pth"
    hub_faults.append(Fault(f"/cdn/{sha256(content)}", "slow"))
    child = client.value("start", spec=spec)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in (folder / "hf").rglob(f"{sha256(content)}*.incomplete")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    assert client.value("wait", child=child) == -signal.SIGKILL
    hub_faults.clear()
    assert Path(client.value("locate", spec=spec)).read_bytes() == content
