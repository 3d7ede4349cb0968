"""Finding and fetching weights: order, verification, interruption, concurrency, offline, the original, the Hub."""

import multiprocessing
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import golden
import pytest
import torch
from hub_client import HubClient, forbid_sockets, save_tiny, set_env, tiny_weights, vector
from hub_server import HubServer, Repo, git_blob, sha256

import hear_byols
from hear_byols.encoders import build_encoder
from hear_byols.errors import CheckpointError, DownloadError, OptionError, WeightsNotFoundError
from hear_byols.weights import registry
from hear_byols.weights.checkpoint import read_checkpoint
from hear_byols.weights.locate import cache_dir, local_file, locate

CHECKOUT = Path(__file__).resolve().parents[1] / "checkpoints"
CONTENT = bytes(range(256)) * 512  # 128 KiB


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
def record(server, online, monkeypatch):
    """A record of the zoo whose file lies on the local server."""
    location, digest = f"{server.url}/files/weights.pth", sha256(CONTENT)
    record = registry.WeightRecord("tiny", "cnn", 8, "url", "tiny.pth", location, digest, len(CONTENT))
    return _register(monkeypatch, replace(record, git_blob=git_blob(CONTENT)))


def _register(monkeypatch, record):
    monkeypatch.setitem(registry._BY_NAME, record.name, record)
    return record


def _refused(error: type[Exception], *words: str, spec: object = "tiny") -> None:
    """Weights are refused with a message that holds the words."""
    with pytest.raises(error) as caught:
        locate(spec)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 1500


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_every_record_is_complete_and_matches_its_file():
    """Says the right values when record and file disagree."""
    for name in registry.list_models():
        record = registry.find_record(name)
        assert record.name == name
        assert record.source in ("shipped", "checkout", "url", "random", "opensmile")
        if record.source == "url":
            assert record.sha256 or record.git_blob
            assert record.location.startswith("https://")
            assert record.licence
        if record.source in ("shipped", "checkout"):
            path = CHECKOUT / record.file if record.source == "checkout" else local_file(record)
            size, digest = path.stat().st_size, sha256(path.read_bytes())
            assert (record.size, record.sha256) == (size, digest), f"{record.file} has {size=}, sha256={digest!r}"
            config = read_checkpoint(path).config.encoder
            assert (record.encoder, record.embedding_size) == (config.name, build_encoder(config).embedding_size)
            assert record.licence
            assert record.data
    assert registry.find_record("cvt_hybrid.pth").name == "cvt_hybrid"
    assert registry.find_record("nothing") is None
    originals = ["original_cnn_byols", "original_cvt_hybrid", "original_resnetish34_byols"]
    assert registry.list_models("original_*") == originals
    assert locate("").record.name == registry.DEFAULT_MODEL


# Order of resolution


def test_a_path_goes_first_and_a_name_never_means_a_file_or_folder_by_accident(tmp_path, monkeypatch):
    """Only what has a suffix or a slash is a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    for name in ("cnn_hybrid", "mine", "mine.pth", "cvt_hybrid.pth", "sub/w.pth"):
        (tmp_path / name).write_bytes(b"no checkpoint")
    for spec in ("./cnn_hybrid", "mine.pth", Path("mine.pth"), Path("mine"), tmp_path / "sub" / "w.pth"):
        assert locate(spec).path == Path(spec)
    assert locate("~/sub/w.pth").path == tmp_path / "sub" / "w.pth"
    assert (locate("cvt_hybrid.pth").path, locate("cvt_hybrid.pth").record) == (Path("cvt_hybrid.pth"), None)
    assert locate("cnn_hybrid").record.name == "cnn_hybrid"
    _refused(WeightsNotFoundError, "The file of this name here is ./mine", spec="mine")
    Path("random_cnn").mkdir()
    assert len(hear_byols.load_model("random_cnn+random_cvt").parts) == 2
    _refused(WeightsNotFoundError, "is a folder", spec=tmp_path)
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("HEAR_BYOLS_HOME")
    assert cache_dir() == tmp_path / ".cache" / "hear_byols"


def test_shipped_goes_before_cache_and_is_verified(tmp_path, monkeypatch, online):
    shipped = tmp_path / "shipped"
    for folder in (shipped, online):
        folder.mkdir()
        (folder / "w.pth").write_bytes(folder.name.encode())
    (shipped / "bare.pth").write_bytes(b"no record")
    monkeypatch.setattr("hear_byols.weights.locate.shipped_dir", lambda: shipped)
    _register(monkeypatch, registry.WeightRecord("w", "cnn", 8, "shipped", "w.pth", "", sha256(b"shipped"), 7))
    assert locate("w").path == shipped / "w.pth"
    assert locate("bare.pth").path == shipped / "bare.pth"
    (shipped / "w.pth").write_bytes(b"spoiled")
    _refused(CheckpointError, "w.pth is not the file of record 'w': its sha256 is", spec="w")
    (shipped / "w.pth").unlink()
    _refused(WeightsNotFoundError, "should be shipped", spec="w")
    # Weights of the checkout are taken from the cache elsewhere.
    _register(monkeypatch, registry.WeightRecord("w", "cnn", 8, "checkout", "w.pth", "", sha256(b"cache"), 5))
    assert locate("w").path == online / "w.pth"
    (shipped / "w.pth").write_bytes(b"cache")
    assert locate("w").path == shipped / "w.pth"
    for folder in (shipped, online):
        (folder / "w.pth").unlink()
    _refused(WeightsNotFoundError, f"not of the installed package; put it into {online}", spec="w")


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
        _refused(WeightsNotFoundError, *words, "random_cvt", "hf://owner/repo/file", spec=spec)
    for spec in [None, 3, b"bytes", Path]:
        _refused(OptionError, "string or a path", spec=spec)


# Downloads by URL


def test_download_is_verified_cached_and_not_repeated(server, record, online):
    path = locate("tiny").path
    assert path == online / "tiny.pth"
    assert path.read_bytes() == CONTENT
    assert locate("tiny.pth").path == path
    assert server.requests == ["GET /files/weights.pth"]
    assert _files(online) == ["tiny.pth"]
    for damaged in (CONTENT[:-1], b"\1" + CONTENT[1:], b""):
        path.write_bytes(damaged)
        _refused(CheckpointError, "tiny.pth is not the file of record 'tiny'", "delete it")
    path.unlink()
    assert locate("tiny").path.read_bytes() == CONTENT


def test_bad_download_leaves_nothing(server, record, online, monkeypatch):
    assert git_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    other = bytes(byte ^ 1 for byte in CONTENT)
    for fault, error, words, unknown in [
        ("cut", DownloadError, "broke off", {}),
        ("wrong", DownloadError, f"its sha256 is {sha256(other)} instead of", {}),
        ("wrong", DownloadError, f"its git blob id is {git_blob(other)} instead of", {"size": None, "sha256": ""}),
        ("short", DownloadError, "65536 bytes instead of 131072", {}),
        (404, WeightsNotFoundError, "answered 404", {}),
        (403, DownloadError, "answered 403", {}),
        (500, DownloadError, "answered 500", {}),
    ]:
        _register(monkeypatch, replace(record, **unknown))
        server.faults = {"weights": fault}
        _refused(error, words, "nothing was kept", record.location)
        assert _files(online) == []
        server.faults = {}
        path = locate("tiny").path
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_unreachable_places_and_a_cache_that_cannot_be_written(record, online, monkeypatch, tmp_path):
    for location in ["http://127.0.0.1:1/x", "nonsense", "ftp://127.0.0.1:1/x", "http://[bad/x"]:
        _register(monkeypatch, replace(record, location=location))
        _refused(DownloadError, "could not be fetched")
        assert _files(online) == []
    _register(monkeypatch, record)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HEAR_BYOLS_HOME", str(tmp_path / "file" / "cache"))
    _refused(DownloadError, "set HEAR_BYOLS_HOME")


@contextmanager
def raw_server(parts: Iterable[bytes]) -> Iterator[str]:
    """The address of a server that sends these bytes to whoever comes first, whatever they ask."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def send():
            connection = listening.accept()[0]
            with connection, suppress(OSError):
                for part in parts:
                    connection.sendall(part)

        threading.Thread(target=send, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/x"


def test_a_server_that_drips_is_given_up(record, online, monkeypatch):
    """In the head of its answer or in the body; each byte is in time."""

    def drip(start: bytes) -> Iterator[bytes]:
        yield start
        for _ in range(100):
            time.sleep(0.05)
            yield b"x"

    for start in (b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"):
        monkeypatch.setenv("HEAR_BYOLS_DOWNLOAD_SECONDS", "0.3")
        with raw_server(drip(start)) as address:
            _register(monkeypatch, replace(record, location=address))
            _refused(DownloadError, "timed out: not whole after 0.3 s")
        assert _files(online) == []
    for seconds in ["0", "-1", "soon", "nan", "1e300"]:
        monkeypatch.setenv("HEAR_BYOLS_DOWNLOAD_SECONDS", seconds)
        _refused(OptionError, "HEAR_BYOLS_DOWNLOAD_SECONDS must be")


@pytest.mark.parametrize("announced", [True, False])
def test_no_more_is_taken_than_the_record_says(record, online, monkeypatch, announced):
    """A server that sends without end is left after the record's size."""
    sent = []

    def endless() -> Iterator[bytes]:
        length = f"Content-Length: {1 << 40}\r\n" if announced else ""
        yield f"HTTP/1.1 200 OK\r\n{length}\r\n".encode()
        while True:
            yield bytes(1 << 16)
            sent.append(1 << 16)

    with raw_server(endless()) as address:
        _register(monkeypatch, replace(record, location=address))
        said = f"has {1 << 40} bytes, {len(CONTENT)} are the most" if announced else "has more than"
        _refused(DownloadError, said)
    assert sum(sent) < 50 * len(CONTENT)
    assert _files(online) == []


@pytest.mark.parametrize("answer", [200, 404, "refused", "no address"])
def test_credentials_are_sent_and_never_shown(server, online, monkeypatch, caplog, answer):
    """Neither in the message nor in the error's causes nor in the log; a password may hold any letter."""
    caplog.set_level("DEBUG")
    place = {"refused": "127.0.0.1:1", "no address": "127.0.0.1:port"}.get(answer, server.url.split("//")[1])
    monkeypatch.setenv("HEAR_BYOLS_ORIGINAL_MIRROR", f"http://ana:s3%40cret@{place}/files/mirror/")
    server.files[f"mirror/{registry.find_record('original_cnn_byols').file}"] = CONTENT
    server.faults = {"mirror": 404} if answer == 404 else {}
    with pytest.raises((DownloadError, WeightsNotFoundError)) as caught:
        locate("original_cnn_byols")
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + str(caught.value)
    assert "***@" in shown
    assert "cret" not in shown
    assert "ana:" not in shown
    if isinstance(answer, int):
        assert server.logins == ["ana:s3@cret"]


def _forked(task) -> multiprocessing.Process:
    """A child process that runs a task."""
    child = multiprocessing.get_context("fork").Process(target=task)
    child.start()
    return child


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_killed_download_leaves_nothing_that_is_taken(record, online, monkeypatch):
    def half() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT[: 1 << 16]
        time.sleep(20)

    with raw_server(half()) as address:
        _register(monkeypatch, replace(record, location=address))
        child = _forked(lambda: locate("tiny"))
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size for path in online.glob(".*.part*")):  # in the middle of writing
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.kill()
        child.join()
    (leftover,) = online.iterdir()
    assert leftover.name != "tiny.pth"
    assert 0 < leftover.stat().st_size < len(CONTENT)
    _register(monkeypatch, record)
    assert locate("tiny").path.read_bytes() == CONTENT


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_many_processes_and_threads_at_once(server, record, online):
    def of_threads() -> None:
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(locate, "tiny") for _ in range(4)]
        assert [each.result().path for each in found] == [online / "tiny.pth"] * 4

    children = [_forked(of_threads) for _ in range(4)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert _files(online) == ["tiny.pth"]
    assert (online / "tiny.pth").read_bytes() == CONTENT


def test_offline_opens_no_socket(server, record, online, monkeypatch):
    forbid_sockets(monkeypatch.setattr)
    online.mkdir()
    file = online / "tiny.pth"
    for i, value in enumerate(["1", "true", "YES", "on"]):
        variable = ("HEAR_BYOLS_OFFLINE", "HF_HUB_OFFLINE")[i % 2]
        monkeypatch.setenv(variable, value)
        _refused(WeightsNotFoundError, "'tiny' is not cached", str(file), record.location, "HEAR_BYOLS_OFFLINE")
        file.write_bytes(CONTENT)
        assert locate("tiny").path == file
        file.unlink()
        monkeypatch.setenv(variable, "0")
        with pytest.raises(AssertionError, match="a socket was opened"):  # the guard works
            locate("tiny")
    assert server.requests == []


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
    audio = torch.from_numpy(golden.array("audio"))[:1]
    for offline in ("0", "1"):
        monkeypatch.setenv("HEAR_BYOLS_OFFLINE", offline)
        vectors = hear_byols.get_scene_embeddings(audio, hear_byols.load_model("original_cvt_hybrid"))
        golden.assert_equal_to(vectors, golden.array("cvt_scene_single")[:1])
        assert len(server.requests) == 2


def test_without_a_mirror_the_pinned_source_is_asked(online, monkeypatch):
    asked = []

    def refuse(url, timeout):
        asked.append(url)
        raise OSError("no network here")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    for name in registry.list_models("original_*"):
        _refused(DownloadError, "no network here", spec=name)
        assert asked.pop() == registry.ORIGINAL_SOURCE + registry.find_record(name).file


@golden.needs_golden
def test_wrapped_state_dicts_and_the_window_of_ntts_files(tmp_path):
    state = golden.original_state_dict("default512")
    torch.save(state, tmp_path / "bare.pth")
    bare = read_checkpoint(tmp_path / "bare.pth")
    for wrapped in [
        {"state_dict": state},
        {f"module.{key}": value for key, value in state.items()},
        {f"encoder.{key}": value for key, value in state.items()},
        {"state_dict": {f"module.encoder.{k}": v for k, v in state.items()}, "epoch": 100},
        {**{f"online.{k}": v for k, v in state.items()}, "predictor.weight": torch.ones(2)},
    ]:
        torch.save(wrapped, tmp_path / "wrapped.pth")
        read = read_checkpoint(tmp_path / "wrapped.pth")
        assert read.config == bare.config
        torch.testing.assert_close(read.state_dict, bare.state_dict, rtol=0, atol=0)
    for options, win_length in (({}, 400), ({"win_length": 1024}, 1024)):
        model = hear_byols.load_model(tmp_path / "bare.pth", **options)
        assert model.config.frontend.win_length == win_length
        assert hear_byols.get_scene_embeddings(torch.linspace(-1, 1, 16000)[None], model).shape == (1, 512)


# The Hub, through its own client


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A server with one repository of two revisions, a client process, and the folder of its caches."""
    folder = tmp_path_factory.mktemp("hub")
    with HubServer() as server:
        first, second = (save_tiny(folder / f"{i}.pth", tiny_weights(i)).read_bytes() for i in (1, 2))
        server.first, server.second = first, second
        repo = server.repos["lab/models"] = Repo({"w.pth": first, "sub/x.pth": first, "README.md": b"hello"})
        server.old = repo.refs["v1"] = repo.refs["refs/pr/1"] = repo.find()
        server.new = repo.commit({"w.pth": second})
        server.repos["lab/secret"] = Repo({"w.pth": first}, private=True)
        with HubClient(folder, server.url) as client:
            yield server, client, folder


def _fresh(hub, mark: object) -> tuple[str, bytes]:
    """The only file of a repository that no test has touched: how it is named, and its content."""
    server, content = hub[0], hub[0].first + str(mark).encode()
    name = f"lab/repo{len(server.repos)}"
    server.repos[name] = Repo({"w.pth": content})
    return f"hf://{name}/w.pth", content


def test_hub_file_loads_by_branch_tag_commit_and_reference(hub):
    server, client, _ = hub
    for spec, content in {
        "hf://lab/models/w.pth": server.second,
        "hf://lab/models/w.pth@main": server.second,
        "hf://lab/models/w.pth@v1": server.first,
        "hf://lab/models/w.pth@refs/pr/1": server.first,
        f"hf://lab/models/w.pth@{server.old}": server.first,
        f"hf://lab/models/w.pth@{server.new}#sha256={sha256(server.second)}": server.second,
        f"hf://lab/models/sub/x.pth@v1#sha256={sha256(server.first).upper()}": server.first,
    }.items():
        assert client.value(locate, spec).path.read_bytes() == content, spec
    vectors = client.value(vector, hear_byols.load_model, "hf://lab/models/w.pth@v1")
    assert len(vectors) == 16
    assert vectors != client.value(vector, hear_byols.load_model, "hf://lab/models/w.pth@main")
    n, spec = len(server.requests), f"hf://lab/models/w.pth@{server.old}"
    path = client.value(locate, spec).path  # a pinned file is asked for once
    assert len(server.requests) == n
    said = client.refused(DownloadError, hear_byols.load_model, f"{spec}#sha256={'0' * 64}")
    assert f"the file's sha256 is {sha256(server.first)}" in said
    assert path.read_bytes() == server.first


def test_wrong_hub_specs(hub):
    for spec, error, words in [
        ("hf://lab/nothing/w.pth", WeightsNotFoundError, "no repository 'lab/nothing'"),
        ("hf://lab/secret/w.pth", WeightsNotFoundError, "it is private"),
        ("hf://lab/models/none.pth", WeightsNotFoundError, "no file 'none.pth'"),
        ("hf://lab/models/w.pth@v9", WeightsNotFoundError, "no revision 'v9'"),
        ("hf://lab/models", OptionError, "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth#sha256=12", OptionError, "64 hex"),
        ("hf://lab/models/../../w.pth", OptionError, "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth@../../x", OptionError, "hf://owner/repo/file.pth@revision"),
        ("hf://lab/models/w.pth@", OptionError, "hf://owner/repo/file.pth@revision"),
        ("hf://-lab-/mo--dels/w.pth", OptionError, "mo--dels"),
        ("hf://lab/models/README.md", CheckpointError, "not a checkpoint"),
    ]:
        assert words in hub[1].refused(error, hear_byols.load_model, spec)


def test_bad_hub_downloads_leave_nothing_and_damage_of_the_cache_is_noticed(hub):
    server, client, folder = hub
    for fault in ("wrong", "cut", "short", 500):
        words = "not what the Hub announced" if fault == "wrong" else "nothing was kept"
        spec, content = _fresh(hub, fault)
        server.faults = {sha256(content): fault}
        assert words in client.refused(DownloadError, locate, spec)
        server.faults = {}
        assert not list((folder / "hf").rglob(sha256(content)))
        path = client.value(locate, spec).path
        assert path.read_bytes() == content
    path.write_bytes(content[:-1])
    client.refused(DownloadError, locate, spec)
    assert client.value(locate, spec).path.read_bytes() == content


@pytest.mark.parametrize("place", ["snapshots", "blobs"])
def test_a_link_out_of_the_hubs_cache_is_neither_loaded_nor_deleted(hub, tmp_path, place):
    """Not even where its name says that its content is damaged."""
    client = hub[1]
    spec, content = _fresh(hub, place)
    path = client.value(locate, spec).path
    own = tmp_path / sha256(content)  # named as the cache would name it
    own.write_bytes(b"mine")
    link = path if place == "snapshots" else path.resolve()
    link.unlink()
    link.symlink_to(own)
    assert str(own) in client.refused(CheckpointError, locate, spec)
    assert own.read_bytes() == b"mine"


def test_without_a_hub_cached_files_are_used_and_offline_nobody_even_tries(hub):
    server, client, folder = hub
    cached = [f"hf://lab/models/w.pth@{server.old}", "hf://lab/models/w.pth@v1"]
    for spec in cached:
        client.value(locate, spec)
    n = len(server.requests)
    with (
        HubClient(folder, "http://127.0.0.1:1") as lost,
        HubClient(folder, server.url, HF_HUB_OFFLINE="1") as offline,  # the client reads this one when imported
    ):
        assert lost.value(locate, cached[1]).path.read_bytes() == server.first
        assert "could not be reached" in lost.refused(DownloadError, locate, _fresh(hub, "lost")[0])
        lost.value(set_env, HEAR_BYOLS_OFFLINE="1")
        for process in (lost, offline):
            process.value(forbid_sockets)
            for spec in (*cached, f"{cached[0]}#sha256={sha256(server.first)}"):
                assert process.value(locate, spec).path.read_bytes() == server.first
            for spec in ("hf://lab/models/w.pth@v7", "hf://lab/other/w.pth"):
                assert f"{spec} is not in the Hub's cache" in process.refused(WeightsNotFoundError, locate, spec)
    assert len(server.requests) == n
