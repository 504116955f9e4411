"""Who may open the page, and what it takes: else another user or page of this computer reads a patient's images."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason='the page needs pip install "medseg[view]" in an environment of its own')

from aiohttp import ClientSession, CookieJar, FormData, web
from aiohttp.test_utils import TestServer

from medseg.errors import InputError
from medseg_view.access import HOST, Door
from medseg_view.uploads import Limits, TooLarge, Upload, kept_name, receive

Body = Callable[[ClientSession, str, Door], Awaitable[None]]


def visit(
    body: Body, folder: Path | None = None, limits: Limits | None = None, kept: list[Upload] | None = None
) -> None:
    """``body`` with a browser's session, the page's address without path, and its door."""

    async def upload(request: web.Request) -> web.Response:
        assert folder is not None and kept is not None
        try:
            kept.append(await receive(request, folder, limits))
        except TooLarge as error:
            return web.Response(status=413, text=str(error))
        except InputError as error:
            return web.Response(status=400, text=str(error))
        return web.Response()

    async def index(request: web.Request) -> web.Response:
        return web.Response(text="the page")

    async def everything() -> None:
        door = Door()
        app = web.Application(middlewares=[door.middleware()])
        app.router.add_get("/index.html", index)
        app.router.add_post("/upload", upload)
        async with TestServer(app, host=HOST) as server:
            door.port = server.port or 0
            async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
                await body(session, f"http://{HOST}:{server.port}", door)

    asyncio.run(everything())


def test_the_address_lets_in_once_and_the_cookie_after_that() -> None:
    async def body(session: ClientSession, page: str, door: Door) -> None:
        address = door.address
        assert (await session.get(page + "/index.html")).status == 403
        entered = await session.get(address)
        assert entered.status == 200 and "token" not in str(entered.url) and await entered.text() == "the page"
        assert "default-src 'none'" in entered.headers["Content-Security-Policy"]
        assert entered.headers["Cache-Control"] == "no-store"
        assert (await session.get(page + "/index.html")).status == 200
        async with ClientSession() as second:
            refused = await second.get(address)
            assert refused.status == 403 and "used already" in await refused.text()

    visit(body)


@pytest.mark.parametrize("token", ["", "wrong", "%00", "é" * 40])
def test_a_wrong_token_lets_nobody_in_and_does_not_use_up_the_right_one(token: str) -> None:
    async def body(session: ClientSession, page: str, door: Door) -> None:
        assert (await session.get(f"{page}/?token={token}")).status == 403
        assert (await session.get(door.address)).status == 200

    visit(body)


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}], ids=str
)
def test_other_names_and_other_pages_are_refused_even_with_the_cookie(headers: dict[str, str]) -> None:
    async def body(session: ClientSession, page: str, door: Door) -> None:
        await session.get(door.address)
        assert (await session.get(page + "/index.html", headers=headers)).status == 403
        assert (await session.post(page + "/upload", headers=headers)).status == 403

    visit(body)


def test_a_request_that_acts_must_say_which_page_it_comes_from() -> None:
    async def body(session: ClientSession, page: str, door: Door) -> None:
        await session.get(door.address)
        assert (await session.post(page + "/upload")).status == 403

    visit(body)


def form(*files: tuple[str, bytes]) -> FormData:
    made = FormData(quote_fields=False)  # names as browsers send them
    for name, content in files:
        made.add_field("file", content, filename=name)
    return made


def send(folder: Path, limits: Limits, data: FormData) -> tuple[int, str, list[Upload]]:
    kept: list[Upload] = []
    answers: list[tuple[int, str]] = []

    async def body(session: ClientSession, page: str, door: Door) -> None:
        await session.get(door.address)
        answer = await session.post(page + "/upload", data=data, headers={"Origin": page})
        answers.append((answer.status, await answer.text()))

    visit(body, folder, limits, kept)
    return (*answers[0], kept)


def test_a_file_is_kept_under_a_name_of_ours(tmp_path: Path) -> None:
    """The visitor's name may be a patient's, or lead out of the folder."""
    given = form(("../../DOE^JANE.nii.gz", b"voxels"))
    status, _, (upload,) = send(tmp_path, Limits(), given)
    assert status == 200 and [p.name for p in tmp_path.iterdir()] == ["file00000.nii.gz"]
    assert upload.path.read_bytes() == b"voxels" and upload.title == "DOE^JANE.nii.gz"
    assert upload.own_names("file00000.nii.gz is cut") == "DOE^JANE.nii.gz is cut"
    assert "DOE" not in repr(upload)


def test_several_files_are_a_folder_and_an_index_of_them_is_left_out(tmp_path: Path) -> None:
    status, _, (upload,) = send(tmp_path, Limits(), form(("1.dcm", b"a"), ("DICOMDIR", b"b" * 999), ("2", b"c")))
    assert status == 200 and upload.path == tmp_path
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file00000.dcm", "file00001"]


@pytest.mark.parametrize(
    ("limits", "files", "words"),
    [
        (Limits(size=1000), [("a.nii", bytes(600)), ("b.nii", bytes(600))], "More than 0 MB"),
        (Limits(files=2), [(f"{n}.dcm", b"x") for n in range(3)], "More than 2 files"),
        (Limits(size=1000, files=1), [("a.nii", bytes(1 << 20))], "--limit"),
    ],
    ids=["bytes", "files", "announced"],
)
def test_more_than_the_limit_is_refused(
    limits: Limits, files: list[tuple[str, bytes]], words: str, tmp_path: Path
) -> None:
    status, text, kept = send(tmp_path, limits, form(*files))
    assert status == 413 and words in text and not kept
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= limits.size


def test_a_header_that_names_another_file_is_not_taken(tmp_path: Path) -> None:
    """It could name any file of this computer."""
    status, text, _ = send(tmp_path, Limits(), form(("ct.nhdr", b"data file: /etc/passwd")))
    assert status == 400 and "ct.nhdr" in text and "one file" in text and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("own", "kept"),
    [("a.NII.GZ", "file00007.nii.gz"), ("IM0001", "file00007"), ("1.2.840.113", "file00007"), ("x.exe", "file00007"),
     ("a.nii.gz\0.sh", "file00007")],
)  # fmt: skip
def test_only_the_kind_of_file_is_kept_of_a_name(own: str, kept: str) -> None:
    assert kept_name(7, own) == kept
