"""Drives ``medseg view`` in a real browser, from the upload to probabilities and segments, and prints what held.

    python Testing/view/drive_page.py [--data ../shared/data] [--pictures FOLDER]

Needs the extra ``view``, selenium and Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``).
Without the real data a drawn head CT is uploaded, and the damaged files are left out. Exit code 0 where everything
held. The pictures are for the eye: look at them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from selenium.webdriver.common.by import By

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medseg import phantoms
from medseg.cli.phantom import write_case
from view.browser import LIMIT_MB, Page, check, held


def strangers(page: Page) -> None:
    """Who has no right to be here."""
    used = urlsplit(page.address)
    cases: list[tuple[str, str, str, dict[str, str]]] = [
        ("a second visitor with the used address", "GET", f"/?{used.query}", {}),
        ("a visitor without a token", "GET", "/index.html", {}),
        ("a file of the page without the cookie", "GET", "/medseg_view/page.js", {}),
        ("an upload without the cookie", "POST", "/upload", {"Origin": f"http://{page.host}"}),
        ("another host name (DNS rebinding)", "GET", f"/?{used.query}", {"Host": "evil.example"}),
        ("another page as origin", "GET", "/index.html", {"Origin": "http://evil.example"}),
        ("the socket without the cookie", "GET", "/ws", {
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": f"http://{page.host}",
        }),
    ]  # fmt: skip
    for words, method, path, headers in cases:
        status, _ = page.ask(method, path, **headers)
        check(status == 403, f"{words}: {status}")
    (cookie,) = [c for c in page.browser.get_cookies() if c["name"].startswith("medseg-")]
    check(cookie["httpOnly"] and cookie["sameSite"] == "Lax", "the cookie is hidden from scripts and from other sites")
    mine = {"Cookie": f"{cookie['name']}={cookie['value']}"}
    status, _ = page.ask("POST", "/upload", **mine, Origin="http://evil.example")
    check(status == 403, f"an upload by another page, with the cookie: {status}")
    announced = {**mine, "Origin": f"http://{page.host}", "Content-Type": "multipart/form-data; boundary=x",
                 "Content-Length": str(10**12)}  # fmt: skip
    status, text = page.ask("POST", "/upload", b"", **announced)
    check(status == 413 and "MB" in text, f"a request that announces a terabyte: {status} {text[:60]}")


def hostile(page: Page, data: Path, work: Path) -> None:
    """Files that are meant to do harm, or are just broken."""
    crash = data / "broken" / "metaimage_crash.mha"
    bomb = work / "bomb.nii.gz"
    header = bytearray(352)
    header[0:4], header[40:56] = (
        (348).to_bytes(4, "little"),
        b"".join(n.to_bytes(2, "little") for n in (3, 30000, 30000, 30000, 1, 1, 1, 1)),
    )
    header[70:74], header[344:348] = (2).to_bytes(2, "little") + (8).to_bytes(2, "little"), b"n+1\0"
    header[108:112] = b"\0\0\xb0\x43"
    with gzip.open(bomb, "wb") as file:
        file.write(bytes(header) + bytes(1 << 26))
    page_of_script = work / "<img src=x onerror=alert(1)>.nii"
    page_of_script.write_bytes(b"<script>alert(1)</script>" * 100)
    parts = work / "reads.nhdr"
    parts.write_text("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 8\nencoding: raw\ndata file: /etc/passwd\n")
    damaged = [(crash, crash.name), (data / "broken" / "transfer_syntax.dcm", "transfer_syntax.dcm")]
    made = [(bomb, bomb.name), (page_of_script, "onerror"), (parts, parts.name)]
    for file, named in (*(d for d in damaged if d[0].exists()), *made):
        page.give([file])
        problem = page.state("problem")
        check(named in problem and not page.state("image"), f"hostile {file.suffix}: {problem[:140]}")
    check(not page.left(), f"nothing of them is kept: {page.left()}")
    large = work / "large.nii"
    with large.open("wb") as file:
        file.truncate((LIMIT_MB + 1) << 20)
    page.give([large])
    check("more than is taken" in page.state("problem"), f"too large, told before it is sent: {page.state('problem')}")
    page.set("limit_bytes", 1 << 40)
    page.give([large])
    check(page.state("problem"), f"too large, the page's own check switched off: {page.state('problem')}")
    check(not page.left(), "nothing of it is kept")
    page.set("limit_bytes", LIMIT_MB << 20)


def haemorrhage(page: Page, series: Path, pictures: Path, work: Path) -> None:
    """A head CT, from upload to probabilities, against the command line."""
    files = sorted(p for p in series.rglob("*") if p.suffix.lower() in ("", ".dcm"))
    page.give(files)
    check(page.state("image") and not page.state("problem"), f"read: {page.state('image')}, {page.state('facts')}")
    check(page.state("model") == "ich-compact", "the model that fits a head CT stands first")
    check(not any("/given" in f for f in page.left()), f"the files are removed once read; voxels left: {page.left()}")
    page.picture(pictures, "1-uploaded")
    page.click_window("Bone")
    bone = page.pixels()
    page.click_window("Brain")
    level, width = page.state("level"), page.state("width")
    check((level, width) == (40, 80), f"the window Brain is {level}/{width}")
    check(page.seen(lambda now: (now != bone).any(axis=2).mean() > 0.02), "and the image looks otherwise than in Bone")
    page.run()
    check(not page.state("problem") and len(page.state("bars")) == 6, "six probabilities are shown")
    rows = command_line(work / "cli", "ich-compact", series, "slices")
    names = [bar["name"] for bar in page.state("bars")]
    plot = page.state("plot")["data"]
    worst = max(abs(float(row[n]) - line["y"][k]) for n, line in zip(names, plot, strict=True)
                for k, row in enumerate(rows))  # fmt: skip
    count = page.state("slice_count")
    check(len(rows) == count and worst < 1e-5, f"{count} slices, at most {worst:.1e} from those of medseg run")
    page.picture(pictures, "2-probabilities")
    for index in (2, 12, 26):
        page.click_point(index)
        page.wait(lambda index=index: page.state("slice_number") == index + 1, 10, f"slice {index + 1}")
        shown = {bar["name"]: float(bar["text"]) for bar in page.state("bars")}
        near = max(abs(shown[n] - float(rows[index][n])) for n in names)
        check(near < 6e-4, f"slice {index + 1}: the bars are its row of slices.csv")
    page.picture(pictures, "3-another-slice")


def command_line(output: Path, model: str, image: Path, table: str) -> list[dict[str, str]]:
    """The rows of a table as ``medseg run`` writes it."""
    command = [sys.executable, "-m", "medseg.cli", "run", model, str(image), "-o", str(output), "--no-scene"]
    subprocess.run(command, check=True, capture_output=True)
    with (output / f"{table}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def segmentation(page: Page, pictures: Path, work: Path) -> None:
    """A FLAIR is dropped onto the page and segmented: overlay, tables, surfaces, against the command line."""
    image, _ = write_case(phantoms.flair(5), work / "drawn", dicom=False)
    page.drop([image])
    check(page.state("image") == image.name and not page.state("problem"), f"dropped: {page.state('facts')}")
    check(page.state("model") == "wmh-compact", "the model that fits a FLAIR stands first")
    page.run()
    check(not page.state("problem") and page.state("segments"), f"segments are shown {page.state('problem')}")
    rows = command_line(work / "cli-wmh", "wmh-compact", image, "segments")
    tables = {one["name"]: one for one in page.state("tables")}
    mine = {row["segment"]: float(row["volume_ml"]) for row in rows}
    column = next(n for n, c in enumerate(tables["segments"]["columns"]) if c.startswith("volume"))
    shown = {row[0]: float(row[column]) for row in tables["segments"]["rows"]}
    close = mine.keys() == shown.keys() and all(abs(shown[n] / mine[n] - 1) < 0.01 for n in mine)
    check(close, f"the volumes are those of medseg run: {shown}")
    page.click("layout-slices")
    page.click_row("lesions", 0)
    check(page.seen(lambda now: reddish(now) > 200), f"the overlay is seen: {reddish(page.last)} coloured pixels")
    page.set("overlay", False)
    check(page.seen(lambda now: reddish(now) < 20), f"and goes: {reddish(page.last)}")
    page.set("overlay", True)
    page.click("layout-space")
    check(page.seen(lambda now: reddish(now) > 500), f"surfaces are seen in 3D: {reddish(page.last)} coloured pixels")
    page.picture(pictures, "4-surfaces")
    page.click("layout-four")
    check(page.seen(lambda now: reddish(now) > 300 and grey(now) > 0.1), "three planes and 3D are seen together")
    page.picture(pictures, "5-segmented")


def dropped_folder(page: Page, work: Path) -> None:
    """A folder of DICOM files, with an image in a folder inside it, as it lies on a disc."""
    image, _ = write_case(phantoms.head_ct(7, size=(64, 64, 12), spacing=(3.5, 3.5, 12.0)), work / "disc", dicom=True)
    page.drop([image.parent])
    check("64 x 64 x 12" in page.state("facts"), f"a dropped folder: {page.state('facts')} {page.state('problem')}")


def grey(pixels: np.ndarray) -> float:
    """The share of pixels that are those of an image: grey and not black."""
    return float(((np.ptp(pixels, axis=2) < 12) & (pixels[..., 0] > 90)).mean())


def reddish(pixels: np.ndarray) -> int:
    """How many pixels have the colour of the lesions; images are grey."""
    red, green, blue = (pixels[..., n] for n in range(3))
    return int(((red - green > 50) & (red - blue > 50)).sum())


def main() -> int:
    """Everything, in one run of the server."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=Path(os.environ.get("MEDSEG_TEST_DATA", "../shared/data")))
    options.add_argument("--pictures", type=Path, default=Path("test-output/view"))
    given = options.parse_args()
    given.pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "tmp").mkdir()
        page = Page(work / "tmp")
        try:
            page.browser.get(page.address)
            page.wait(lambda: page.browser.find_elements(By.ID, "choose-files"), 60, "the page")
            check("token" not in page.browser.current_url, "the token has left the address")
            strangers(page)
            hostile(page, given.data, work)
            series = given.data / "images" / "head-ct-tilted"
            if not series.is_dir():
                drawn = phantoms.head_ct(7, bleeds=["intraparenchymal", "subdural"])
                series, _ = write_case(drawn, work / "drawn", dicom=True)
            haemorrhage(page, series, given.pictures, work)
            dropped_folder(page, work)
            segmentation(page, given.pictures, work)
            check(page.hosts() == {page.host}, f"{len(page.requested)} requests, all to {sorted(page.hosts())}")
        finally:
            code = page.end()
            page.log.seek(0)
            (given.pictures / "server.log").write_text(page.log.read())
        left = [p.name for p in (work / "tmp").rglob("*")]
        check(code == 0 and not left, f"ended with {code}; left in the temporary folder: {left}")
    failed = [words for true, words in held if not true]
    print(f"{len(held) - len(failed)} held, {len(failed)} did not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
