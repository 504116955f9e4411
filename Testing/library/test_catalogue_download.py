"""A download that breaks must never become a model: what a hospital's network does, done by a local server."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import medseg
from medseg.errors import Cancelled, InputError, OutputError
from medseg.library.catalogue import download as module
from medseg.library.catalogue.download import Settings, Wanted, download
from medseg.library.catalogue.transport import DownloadError
from medseg.monitor import Monitor
from support.catalogue_server import _Server, chunked, hang_up, redirect, serving, status, whole

BODY = bytes(range(256)) * 1200
HASH = hashlib.sha256(BODY).hexdigest()
FAST = Settings(stall=0.3, total=10, tries=3, back_off=0.01, longest_wait=0.05)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[_Server]:
    with serving() as running:
        yield running


def fetch(
    address: str | list[str], target: Path, *, sha256: str | None = HASH, size: int | None = None,
    limit: int = 1 << 30, patience: Settings = FAST, monitor: Monitor | None = None, **more: Any,
) -> str:  # fmt: skip
    addresses = [address] if isinstance(address, str) else address
    wanted = Wanted(addresses, sha256, size, limit)
    return download(wanted, target, monitor=monitor or Monitor(), settings=patience, **more)


def nothing_counts_as_there(target: Path) -> bool:
    """No finished file; only a part, its record and the lock may be left."""
    return not target.exists() and all(p.suffix in (".part", ".json", ".lock") for p in target.parent.iterdir())


def no_part(target: Path) -> bool:
    return not list(target.parent.glob("*.part*"))


# -- what works ---------------------------------------------------------------------------------------------


def test_a_whole_file_with_progress(server: _Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "m.bin"
    digest = fetch(server.route("/m", whole(BODY)), target, size=len(BODY), progress=lambda *a: told.append(a))
    assert digest == HASH and target.read_bytes() == BODY and no_part(target)
    assert told[-1] == (len(BODY), len(BODY)) and [h for h, _ in told] == sorted(h for h, _ in told)


@pytest.mark.parametrize("resumes", [True, False])
def test_dies_in_the_middle_then_goes_on(server: _Server, tmp_path: Path, resumes: bool) -> None:
    """Without ranges at the server the file is taken anew, and never appended to what was there."""
    address = server.route("/m", whole(BODY, send=100_000), whole(BODY, ranges=resumes))
    monitor = Monitor()
    assert fetch(address, tmp_path / "m.bin", monitor=monitor) == HASH
    assert (tmp_path / "m.bin").read_bytes() == BODY
    assert server.ranges("/m") == [None, "bytes=100000-"]
    assert server.requests[1][1]["If-Range"] == '"v1"'
    assert bool(monitor.warnings) is not resumes


def test_the_next_call_goes_on_where_the_last_stopped(server: _Server, tmp_path: Path) -> None:
    """Of a 400 MB file on a poor line, what came yesterday is kept; it does not count as the model."""
    target = tmp_path / "m.bin"
    with pytest.raises(DownloadError, match=r"tried 3 times.*first 0\.1 MB are kept"):
        fetch(server.route("/m", whole(BODY, send=100_000), hang_up), target)
    assert nothing_counts_as_there(target) and (tmp_path / "m.bin.part").stat().st_size == 100_000
    server.route("/m", whole(BODY))
    assert fetch(f"http://127.0.0.1:{server.server_port}/m", target) == HASH
    assert server.ranges("/m")[-1] == "bytes=100000-" and no_part(target)


def test_a_process_that_was_killed_before_the_check(server: _Server, tmp_path: Path) -> None:
    """All bytes are there but nobody looked at them: they are checked now, and taken anew if they are wrong."""
    target, address = tmp_path / "m.bin", server.route("/m", whole(BODY))
    record = json.dumps({"address": address, "validator": '"v1"', "total": len(BODY)})
    for content, requests in ((BODY, 0), (BODY[::-1], 1)):
        (tmp_path / "m.bin.part").write_bytes(content)
        (tmp_path / "m.bin.part.json").write_text(record)
        assert fetch(address, target) == HASH and len(server.requests) == requests
        target.unlink()


def test_a_file_that_changes_meanwhile_is_not_mixed(server: _Server, tmp_path: Path) -> None:
    new = BODY[::-1]
    address = server.route("/m", whole(BODY, send=100_000), whole(new, etag='"v2"'))
    assert fetch(address, tmp_path / "m.bin", sha256=None) == hashlib.sha256(new).hexdigest()
    assert (tmp_path / "m.bin").read_bytes() == new


def test_a_mixed_file_is_found_by_its_hash_and_taken_anew(server: _Server, tmp_path: Path) -> None:
    """A server without ETag that changes the file: only the hash can tell."""
    old = BODY[::-1]
    address = server.route("/m", whole(old, send=100_000, etag=""), whole(BODY, etag=""))
    monitor = Monitor()
    assert fetch(address, tmp_path / "m.bin", monitor=monitor) == HASH
    assert "taken anew" in monitor.warnings[0] and server.ranges("/m") == [None, "bytes=100000-", None]


def test_without_version_and_hash_nothing_is_resumed(server: _Server, tmp_path: Path) -> None:
    address = server.route("/m", whole(BODY, send=100_000, etag='W/"weak"'), whole(BODY, etag='W/"weak"'))
    assert fetch(address, tmp_path / "m.bin", sha256=None) == HASH
    assert server.ranges("/m") == [None, None]


def test_the_server_has_forgotten_the_range(server: _Server, tmp_path: Path) -> None:
    """416, and a 206 of another part than asked for, lead to a new beginning."""
    wrong = status(206, {"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}"})
    for bad in (status(416), wrong):
        address = server.route("/m", whole(BODY, send=100_000), bad, whole(BODY))
        target = tmp_path / "m.bin"
        assert fetch(address, target) == HASH and target.read_bytes() == BODY
        target.unlink()


def test_redirects_are_followed_with_the_range(server: _Server, tmp_path: Path) -> None:
    store = server.route("/store", whole(BODY, send=100_000), whole(BODY))
    for code in (301, 302, 303, 307, 308):
        address = server.route("/m", redirect(store + "?signature=secret", code))
        assert fetch(address, tmp_path / f"{code}.bin") == HASH
    assert server.ranges("/store")[:2] == [None, "bytes=100000-"]


def test_busy_servers_are_asked_again(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that they name, but never longer than the longest wait."""
    waits: list[float] = []
    monkeypatch.setattr(module._Fetch, "_wait", lambda _, seconds: waits.append(seconds))
    busy = [status(503, {"Retry-After": "900"}), status(429, {"Retry-After": "7"}), status(500), status(502)]
    address = server.route("/m", *busy, whole(BODY))
    assert fetch(address, tmp_path / "m.bin", patience=Settings(tries=5, back_off=1, longest_wait=60)) == HASH
    assert waits == [60, 7, 4, 8]


def test_chunked_transfers(server: _Server, tmp_path: Path) -> None:
    address = server.route("/m", chunked(BODY, cut=True), chunked(BODY))
    assert fetch(address, tmp_path / "m.bin", sha256=None) == HASH


def test_the_next_address_is_tried(server: _Server, tmp_path: Path) -> None:
    monitor = Monitor()
    addresses = [server.route("/gone", status(404)), server.route("/m", whole(BODY))]
    assert fetch(addresses, tmp_path / "m.bin", monitor=monitor) == HASH
    assert "next address" in monitor.warnings[0]


def test_a_proxy_of_the_environment_is_used(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "")
    server.routes["http://models.invalid/m"] = [whole(BODY)]
    assert fetch("http://models.invalid/m", tmp_path / "m.bin") == HASH


# -- what must be refused -----------------------------------------------------------------------------------


def test_a_wrong_file_is_deleted_and_both_hashes_are_named(server: _Server, tmp_path: Path) -> None:
    bad = BODY[:-1] + b"?"
    target = tmp_path / "m.bin"
    with pytest.raises(DownloadError) as error:
        fetch(server.route("/m", whole(bad)), target, size=len(BODY))
    assert HASH in str(error.value) and hashlib.sha256(bad).hexdigest() in str(error.value)
    assert "deleted" in str(error.value) and nothing_counts_as_there(target) and no_part(target)


def test_what_the_hub_says_of_its_file_is_checked(server: _Server, tmp_path: Path) -> None:
    """Where the catalogue states no hash, a hub's own statement at the redirect still finds a damaged transfer."""
    address = server.route("/m", redirect("/store", headers={"X-Linked-ETag": f'"{HASH}"'}))
    server.route("/store", whole(BODY[::-1]))
    with pytest.raises(DownloadError, match="the hub means"):
        fetch(address, tmp_path / "m.bin", sha256=None)
    server.route("/store", whole(BODY))
    assert fetch(address, tmp_path / "m.bin", sha256=None) == HASH


def test_truncated_for_good(server: _Server, tmp_path: Path) -> None:
    """A server that ends early each time and ignores ranges must not keep us busy for ever."""
    target = tmp_path / "m.bin"
    with pytest.raises(DownloadError, match="broke off"):
        fetch(server.route("/m", whole(BODY, send=1000, ranges=False)), target)
    assert nothing_counts_as_there(target) and len(server.requests) <= 5


def test_a_length_too_small_gives_no_model(server: _Server, tmp_path: Path) -> None:
    """Where Content-Length ends the file early, size or hash of the catalogue tell."""
    address, target = server.route("/m", whole(BODY, length=5000)), tmp_path / "m.bin"
    with pytest.raises(DownloadError, match=f"5000 bytes, but the catalogue says {len(BODY)}"):
        fetch(address, target, size=len(BODY))
    with pytest.raises(DownloadError, match="expected was"):
        fetch(address, target)
    assert nothing_counts_as_there(target) and no_part(target)


def test_a_length_too_large_gives_no_model(server: _Server, tmp_path: Path) -> None:
    target = tmp_path / "m.bin"
    with pytest.raises(DownloadError, match="broke off"):
        fetch(server.route("/m", whole(BODY, length=len(BODY) + 10, etag="")), target, sha256=None)
    assert nothing_counts_as_there(target)


def test_too_large_is_stopped_early(server: _Server, tmp_path: Path) -> None:
    target = tmp_path / "m.bin"
    with pytest.raises(DownloadError, match="at most"):
        fetch(server.route("/m", whole(BODY)), target, limit=1000)
    with pytest.raises(DownloadError, match="at most"):  # and where no length is stated
        fetch(server.route("/m", chunked(BODY)), target, size=1000)
    assert nothing_counts_as_there(target) and no_part(target)


@pytest.mark.parametrize("then", ["stall", "trickle"])
def test_a_stalled_transfer_ends(server: _Server, tmp_path: Path, then: str) -> None:
    """Also one that sends a byte now and then."""
    target = tmp_path / "m.bin"
    address = server.route("/m", whole(BODY, send=50_000, then=then), hang_up)
    started = time.monotonic()
    with pytest.raises(DownloadError):
        fetch(address, target)
    assert time.monotonic() - started < 15 and nothing_counts_as_there(target)
    server.route("/m", whole(BODY, send=0, then="stall"))
    with pytest.raises(DownloadError, match="stalled"):
        fetch(address, tmp_path / "other.bin", patience=Settings(stall=0.1, tries=2, back_off=0.01))


def test_the_total_time_ends_it(server: _Server, tmp_path: Path) -> None:
    address = server.route("/m", whole(BODY, send=50_000, then="trickle"))
    with pytest.raises(DownloadError, match=r"more than 0\.4 s were needed"):
        fetch(address, tmp_path / "m.bin", patience=Settings(stall=5, slowest=0, total=0.4))


@pytest.mark.parametrize(
    ("code", "said", "requests"),
    [
        (404, "not there any more", 1), (410, "not there any more", 1), (401, "by hand", 1), (403, "by hand", 1),
        (407, "proxy", 1), (500, "error 500", 3), (418, "error 418", 1),
    ],
)  # fmt: skip
def test_error_codes_are_told(server: _Server, tmp_path: Path, code: int, said: str, requests: int) -> None:
    with pytest.raises(DownloadError, match=said):
        fetch(server.route("/m", status(code)), tmp_path / "m.bin")
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.h5", b"<!DOCTYPE html><html>Please sign in", "sign-in page"),
        ("m.bin", b"\n <html>", "sign-in page"),
        ("m.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "pointer"),
        ("m.h5", b"\x89PNG\r\n\x1a\n", "not an HDF5 file"),
        ("m.zip", b"Rar!", "not a zip file"),
        ("model.json", b"[1]", "not a JSON object"),
        ("m.bin", b"", "empty"),
    ],
)
def test_what_is_no_model_is_not_remembered_as_one(
    server: _Server, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    """A sign-in page comes with status 200; without a stated hash nothing else would notice."""
    target = tmp_path / name
    with pytest.raises(DownloadError, match=said):
        fetch(server.route("/m", whole(content)), target, sha256=None)
    assert nothing_counts_as_there(target) and no_part(target)


def test_a_full_disk_is_told(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, target = server.route("/m", whole(BODY)), tmp_path / "m.bin"
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(OutputError, match=r"disk is full.*MEDSEG_CACHE_DIR"):
            fetch(address, target)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        fetch(address, target)
    assert nothing_counts_as_there(target)


def test_a_folder_that_cannot_be_written(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot be written"):
        fetch(server.route("/m", whole(BODY)), tmp_path / "file" / "m.bin")


@pytest.mark.parametrize("then", ["stall", "trickle"])
def test_cancel_ends_a_waiting_transfer_at_once(server: _Server, tmp_path: Path, then: str) -> None:
    monitor = Monitor()
    patience = Settings(stall=15, slowest=0, total=30)
    target = tmp_path / "m.bin"
    timer = threading.Timer(0.2, monitor.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(server.route("/m", whole(BODY, send=5000, then=then)), target, monitor=monitor, patience=patience)
    assert time.monotonic() - started < 12 and nothing_counts_as_there(target)


def test_a_killed_process_leaves_a_part_that_is_gone_on_with(server: _Server, tmp_path: Path) -> None:
    """Slicer is killed, or the computer switched off, in the middle: no model, no lock that stays, and no loss."""
    address = server.route("/m", whole(BODY, send=200_000, then="stall"), whole(BODY))
    code = f"""
from pathlib import Path
from medseg.library.catalogue.download import Wanted, download
from medseg.monitor import Monitor
download(Wanted([{address!r}], {HASH!r}, None, 1 << 30), Path({str(tmp_path)!r}) / "m.bin", monitor=Monitor())
"""
    part = tmp_path / "m.bin.part"
    path = os.pathsep.join([str(Path(medseg.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}) as child:
        while not (part.exists() and part.stat().st_size == 200_000):
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    assert nothing_counts_as_there(tmp_path / "m.bin")
    assert fetch(address, tmp_path / "m.bin") == HASH and server.ranges("/m") == [None, "bytes=200000-"]


def test_two_at_once_do_not_write_one_file(server: _Server, tmp_path: Path) -> None:
    """The command line and Slicer share the cache."""
    address = server.route("/m", whole(BODY, send=5000, then="stall"), whole(BODY))
    target = tmp_path / "m.bin"
    failures: list[BaseException] = []
    monitor = Monitor()

    def first() -> None:
        try:
            fetch(address, target, monitor=monitor, patience=Settings(stall=15))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    with pytest.raises(InputError, match="Another MedSeg"):
        fetch(address, target)
    monitor.cancel()
    thread.join(5)
    assert isinstance(failures[0], Cancelled)
    assert fetch(address, target) == HASH, "and it is free again afterwards"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 60_000), max_size=5), tags=st.sampled_from(['"a"', ""]), ranges=st.booleans())
def test_however_often_it_breaks_the_file_is_the_file(
    server: _Server, tmp_path: Path, cuts: list[int], tags: str, ranges: bool
) -> None:
    target = tmp_path / "m.bin"
    target.unlink(missing_ok=True)
    ways = [whole(BODY, send=cut, etag=tags, ranges=ranges) for cut in cuts]
    assert (
        fetch(server.route("/m", *ways, whole(BODY, etag=tags)), target, patience=Settings(back_off=0, tries=8)) == HASH
    )
    assert target.read_bytes() == BODY and no_part(target)
