"""One file by HTTP: resumed, bounded, checked, and there only when it is whole.

While it comes, the file is called ``NAME.part`` (with ``NAME.part.json``: where it comes from and its version); it gets
its name after its length and its SHA-256 were found right. A broken transfer goes on where it stopped: with ``Range``
and ``If-Range``, so that a file that changed meanwhile is taken anew and never mixed.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...errors import InputError, OutputError
from ...model.package_files import sha256_of
from ...monitor import Monitor
from .content import refuse_other_content
from .transport import Client, DownloadError, explained, place

_BLOCK = 1 << 18
_MARGIN = 64 << 20
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Settings:
    """Patience, in seconds. ``stall``: with fewer than ``slowest`` bytes per second for so long, an attempt ends.

    ``tries``: attempts in a row that bring nothing new. ``back_off``: wait after the first, doubled after each.
    ``total``: for one file from one address, all attempts together.
    """

    stall: float = 30.0
    slowest: float = 500.0
    total: float = 6 * 3600.0
    tries: int = 5
    back_off: float = 1.0
    longest_wait: float = 60.0


@dataclass(frozen=True)
class Wanted:
    """What must arrive. ``sha256`` and ``size`` None: unknown. ``hint``: ends the sentence about a wrong hash."""

    addresses: Sequence[str]
    sha256: str | None
    size: int | None
    limit: int
    hint: str = ""


def download(
    wanted: Wanted,
    target: Path,
    *,
    monitor: Monitor,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> str:
    """Bring ``wanted`` to ``target``; its SHA-256. ``progress(bytes, total or None)`` is called as it comes.

    The addresses are tried in order. Raises `DownloadError` (no network, not there, wrong hash, stalled, too large),
    `OutputError` (disk full, not writable), `InputError` (another process downloads it), `Cancelled`. After a failure
    that may pass the part is kept, and the next call goes on with it; a wrong file is deleted.
    """
    settings = settings or Settings()
    part = target.with_name(target.name + ".part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        lock = part.with_name(target.name + ".lock").open("a+b")
    except OSError as error:
        raise unwritable(error, target, 0) from error
    with closing(lock), _locked(lock, target.name):
        for n, address in enumerate(wanted.addresses):
            try:
                digest = _Fetch(address, wanted, target, part, settings, monitor, progress).run()
                break
            except DownloadError as error:
                if n + 1 == len(wanted.addresses):
                    raise
                monitor.warn(f"{error} The next address of {target.name} is tried.")
    return digest


class _Fetch:
    """One file from one address."""

    def __init__(
        self, address: str, wanted: Wanted, target: Path, part: Path, settings: Settings, monitor: Monitor,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self.address, self.wanted, self.target, self.part = address, wanted, target, part
        self.settings, self.monitor, self.progress = settings, monitor, progress
        self.record = part.with_name(part.name + ".json")
        self.total: int | None = wanted.size
        self.resumed = False
        self.stated: str | None = None
        self.deadline = time.monotonic() + settings.total

    def run(self) -> str:
        digest = self._whole()
        if digest is None:  # a resumed file may mix two versions of it: once more, from the beginning
            self.monitor.warn(f"{self.target.name}, put together from several transfers, was wrong; it is taken anew.")
            self._drop()
            self.resumed = False
            digest = self._whole()
            assert digest is not None
        return digest

    def _whole(self) -> str | None:
        """Transfer until the end, check, rename; None where a file put together from parts has the wrong hash."""
        self._transfer_all()
        size = self.part.stat().st_size
        refuse_other_content(self.target.name, self.part, self.address, self._drop)
        if self.wanted.size is not None and size != self.wanted.size:
            self._drop()
            raise DownloadError(
                f"{place(self.address)} has {size} bytes, but the catalogue says {self.wanted.size}; it was deleted. "
                "The publisher may have changed it: look for a newer catalogue."
            )
        digest = sha256_of(self.part)
        expected = self.wanted.sha256 or self.stated
        if expected is not None and digest != expected:
            if self.resumed:
                return None
            self._drop()
            who = "the catalogue" if self.wanted.sha256 else "the hub"
            raise DownloadError(
                f"{self.target.name} from {place(self.address)} is not the file that {who} means and was deleted: its "
                f"SHA-256 is {digest}, expected was {expected}. {self.wanted.hint or 'Do not use it; try again later.'}"
            )
        try:
            self.part.replace(self.target)
        except OSError as error:
            raise unwritable(error, self.target, 0) from error
        self.record.unlink(missing_ok=True)
        return digest

    def _transfer_all(self) -> None:
        """Attempts until all bytes are there; those in a row without anything new are counted."""
        most, failures = self._have(), 0
        while True:
            client = Client(self.settings.stall)
            try:
                with self.monitor.on_cancel(client.close):
                    self._attempt(client)
                return
            except (OSError, http.client.HTTPException, DownloadError) as error:
                self.monitor.checkpoint()  # a cancel shows as a broken connection
                reason = explained(error, self.address)
            except ValueError:
                self.monitor.checkpoint()  # reading from a socket that a cancel has ended
                raise
            finally:
                client.close()
            if not reason.retry:
                raise reason
            have = self._have()
            failures = 0 if have > most else failures + 1
            most = max(most, have)
            late = time.monotonic() >= self.deadline
            if late or failures >= self.settings.tries:
                why = f"more than {self.settings.total:g} s were needed" if late else f"tried {failures} times"
                kept = f" The first {megabytes(have)} are kept: the same command goes on from there." if have else ""
                raise DownloadError(
                    f"{self.target.name} could not be downloaded from {place(self.address)}: {reason} ({why}).{kept} "
                    "Check the network and the proxy, or put the file into a folder and install with --from."
                ) from reason
            wait = self.settings.back_off * 2 ** max(failures - 1, 0)
            self._wait(min(max(wait, reason.after or 0.0), self.settings.longest_wait))

    def _attempt(self, client: Client) -> None:
        """One request; returns when all bytes are there."""
        have, known = self._have(), self._known()
        headers = {}
        if have and have == known.get("total"):
            self.resumed = True  # came with an earlier call
            return
        if have:
            headers["Range"] = f"bytes={have}-"
            if known.get("validator"):
                headers["If-Range"] = str(known["validator"])
        try:
            response = client.open(self.address, headers)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != 416 or not have:
                raise
            self._drop()
            raise DownloadError("the server has another version of the file", retry=True) from error
        with closing(response):
            start, self.total = self._offered(response, have)
            self._note_stated(client)
            self._check_room(start)
            if have and not start:
                self.monitor.warn(f"{response_host(self.address)} cannot resume {self.target.name}; it is taken anew.")
            self.resumed = bool(start)
            self._write_record(response)
            self._receive(response, start)

    def _offered(self, response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
        """(first byte, total or None) of the answer; refuses what cannot be the file."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DownloadError(f"{place(self.address)} comes compressed although it was asked for as it is.")
        length = response.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdecimal() else None
        start = 0
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if not have or match is None or int(match.group(1)) != have:
                self._drop()
                raise DownloadError(
                    "the server answers with another part of the file than it was asked for", retry=True
                )
            start = have
            total = int(match.group(3)) if match.group(3) != "*" else None
        wanted = self.wanted
        if wanted.size is not None and total is not None and total != wanted.size:
            self._drop()
            raise DownloadError(
                f"{place(self.address)} has {total} bytes, but the catalogue says {wanted.size}; nothing was taken. "
                "The publisher may have changed it: look for a newer catalogue."
            )
        if total is not None and total > wanted.limit:
            raise self._too_large(total)
        return start, total if total is not None else wanted.size

    def _receive(self, response: http.client.HTTPResponse, start: int) -> None:
        have = start
        since, at = time.monotonic(), have
        try:
            # Unbuffered: what a full disk refuses is told here, not when the file is closed.
            out = self.part.open("r+b" if start else "wb", buffering=0)
        except OSError as error:
            raise unwritable(error, self.target, have) from error
        with closing(out):
            out.seek(start)
            while True:
                self.monitor.checkpoint()
                # read1 returns with what one packet brought, so that a trickle is seen as one.
                block = response.read1(_BLOCK)
                if not block:
                    break
                have += len(block)
                if have > self.wanted.limit or (self.wanted.size is not None and have > self.wanted.size):
                    self._drop()
                    raise self._too_large(have)
                try:
                    left = memoryview(block)
                    while left:
                        left = left[out.write(left) or 0 :]
                except OSError as error:
                    raise unwritable(error, self.target, have) from error
                if self.progress is not None:
                    self.progress(have, self.total)
                now = time.monotonic()
                if now > self.deadline:
                    raise DownloadError("the transfer is too slow", retry=True)
                if now - since > self.settings.stall:
                    if have - at < self.settings.slowest * (now - since):
                        raise TimeoutError
                    since, at = now, have
            self.monitor.checkpoint()
            try:
                os.fsync(out.fileno())
            except OSError as error:
                raise unwritable(error, self.target, have) from error
        if self.total is not None and have < self.total:
            raise http.client.IncompleteRead(b"", self.total - have)

    # -- the part ---------------------------------------------------------------------------------------------

    def _have(self) -> int:
        """Bytes of the part that can be gone on with."""
        try:
            have = self.part.stat().st_size
        except OSError:
            return 0
        known = self._known()
        total = known.get("total")
        usable = known.get("address") == self.address and bool(known.get("validator") or self.wanted.sha256)
        if not usable or (isinstance(total, int) and have > total):
            return 0
        return have

    def _known(self) -> dict[str, Any]:
        try:
            value = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def _write_record(self, response: http.client.HTTPResponse) -> None:
        etag = response.headers.get("ETag", "")
        # A weak tag does not promise the same bytes (RFC 9110, 13.1.5).
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        record = {"address": self.address, "validator": validator, "total": self.total}
        try:
            self.record.write_text(json.dumps(record), encoding="utf-8")
        except OSError as error:
            raise unwritable(error, self.target, 0) from error

    def _drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)

    # -- bounds -----------------------------------------------------------------------------------------------

    def _note_stated(self, client: Client) -> None:
        tag = client.stated.get("x-linked-etag", "").strip('"')
        self.stated = tag if re.fullmatch("[0-9a-f]{64}", tag) else None

    def _check_room(self, start: int) -> None:
        need = (self.total or 0) - start
        free = shutil.disk_usage(self.part.parent).free
        if need > 0 and free < need + _MARGIN:
            raise OutputError(
                f"The disk is full: {self.target.name} needs {megabytes(need)} in {self.part.parent}, where "
                f"{megabytes(free)} are free. Make room, or set MEDSEG_CACHE_DIR to a folder on another disk."
            )

    def _too_large(self, size: int) -> DownloadError:
        allowed = self.wanted.size if self.wanted.size is not None else self.wanted.limit
        return DownloadError(
            f"{place(self.address)} sends {megabytes(size)} or more, where at most {megabytes(allowed)} are expected; "
            "it is refused."
        )

    def _wait(self, seconds: float) -> None:
        end = min(time.monotonic() + seconds, self.deadline)
        while (left := end - time.monotonic()) > 0:
            self.monitor.checkpoint()
            time.sleep(min(left, 0.1))


def response_host(address: str) -> str:
    """The host of ``address``, for messages."""
    return place(address).split("/", 1)[0]


def megabytes(count: int) -> str:
    """A number of bytes for a reader."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"


def unwritable(error: OSError, target: Path, have: int) -> OutputError:
    """What ``error`` on writing ``target`` means; ``have`` bytes were written."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return OutputError(
            f"The disk is full in {target.parent} after {megabytes(have)} of {target.name}. Make room, or set "
            "MEDSEG_CACHE_DIR to a folder on another disk; the same command goes on then."
        )
    return OutputError(
        f"{target.name} cannot be written to {target.parent}: {error.strerror or error}. Check the permissions, or set "
        "MEDSEG_CACHE_DIR to another folder."
    )


@contextmanager
def _locked(file: IO[bytes], name: str) -> Iterator[None]:
    """Hold ``file`` for this process, so that the command line and Slicer never write the same part."""
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):  # others: a file system without locks
            raise InputError(
                f"Another MedSeg is downloading {name} at this moment; wait until it has finished."
            ) from error
    yield
