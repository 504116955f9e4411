"""Drives ``medseg view`` in a real browser, from the upload of a head CT to its probabilities, and prints what held.

    python Testing/view/drive_page.py [--data ../shared/data] [--pictures FOLDER]

Needs the extra ``view``, selenium and Chromium with its driver (Debian: ``apt-get install chromium chromium-driver``).
Exit code 0 where everything held. The pictures are for the eye: look at them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

LIMIT_MB = 64
held: list[tuple[bool, str]] = []


def check(true: Any, words: str) -> None:
    """Note and print whether something held."""
    held.append((bool(true), words))
    print("ok  " if true else "FAIL", words, flush=True)


class Page:
    """The server and the browser."""

    def __init__(self, temporary: Path) -> None:
        self.temporary = temporary
        self.log = (temporary.parent / "server.log").open("w+")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "medseg.cli", "view", "--no-browser", "--limit", str(LIMIT_MB)],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env={**os.environ, "TMPDIR": str(temporary)},
        )  # fmt: skip
        assert self.server.stdout is not None
        self.address = re.search(r"http://\S+", self.server.stdout.readline())[0]  # type: ignore[index]
        self.host = urlsplit(self.address).netloc
        options = Options()
        options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1600,1000"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.requested: set[str] = set()

    def state(self, name: str) -> Any:
        return self.browser.execute_script("return window.trame.state.get(arguments[0])", name)

    def set(self, name: str, value: Any) -> None:
        self.browser.execute_script("window.trame.state.set(arguments[0], arguments[1])", name, value)

    def wait(self, until: Callable[[], Any], seconds: float, what: str) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := until():
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{what}: not within {seconds:.0f} s; the page says: {self.state('problem')!r}")

    def give(self, files: list[Path]) -> None:
        """Choose files as the button *Files* does, and wait until they were read or refused."""
        self.set("problem", "")
        self.browser.find_element(By.ID, "choose-files").send_keys("\n".join(str(f) for f in files))
        self.wait(lambda: self.state("busy") or self.state("problem"), 10, "the upload did not start")
        self.wait(lambda: not self.state("busy"), 120, "reading")

    def click(self, identifier: str) -> None:
        self.browser.find_element(By.ID, identifier).click()

    def click_point(self, index: int) -> None:
        """Click on a point of the first line of the plot, as a reader does."""
        points = self.browser.find_elements(By.CSS_SELECTOR, "#scores .scatterlayer .trace:first-child path.point")
        ActionChains(self.browser).move_to_element(points[index]).pause(0.3).click().perform()

    def picture(self, folder: Path, name: str) -> None:
        time.sleep(1.5)  # the views are streamed
        self.browser.save_screenshot(str(folder / f"{name}.png"))

    def hosts(self) -> set[str]:
        """Everything that the browser asked for, by host."""
        for entry in self.browser.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requested.add(message["params"]["request"]["url"])
            elif message["method"] == "Network.webSocketCreated":
                self.requested.add(message["params"]["url"])
        return {urlsplit(u).netloc for u in self.requested if urlsplit(u).scheme in ("http", "https", "ws", "wss")}

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
        """A request of somebody else: no cookie of the browser."""
        connection = http.client.HTTPConnection(self.host, timeout=20)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")

    def left(self) -> list[str]:
        """Files of images that lie in the server's temporary folder."""
        return [str(p.relative_to(self.temporary)) for p in self.temporary.rglob("*") if p.is_file()]

    def end(self) -> int:
        self.browser.quit()
        self.server.send_signal(signal.SIGTERM)
        return self.server.wait(30)


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
    for file, named in ((crash, crash.name), (data / "broken" / "transfer_syntax.dcm", "transfer_syntax.dcm"),
                        (bomb, bomb.name), (page_of_script, "onerror"), (parts, parts.name)):  # fmt: skip
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


def haemorrhage(page: Page, data: Path, pictures: Path, work: Path) -> None:
    """The head CT, from upload to probabilities, against the command line."""
    series = data / "images" / "head-ct-tilted"
    files = sorted(p for p in series.rglob("*") if p.suffix.lower() in ("", ".dcm"))
    page.give(files)
    check(page.state("image") and not page.state("problem"), f"read: {page.state('image')}, {page.state('facts')}")
    check(page.state("model") == "ich-compact", "the model that fits a head CT stands first")
    check(not any("/given" in f for f in page.left()), f"the files are removed once read; voxels left: {page.left()}")
    page.picture(pictures, "1-uploaded")
    page.click("run")
    page.wait(lambda: page.state("busy") == "run", 10, "the run did not start")
    page.wait(lambda: not page.state("busy"), 180, "the run")
    check(not page.state("problem") and len(page.state("bars")) == 6, "six probabilities are shown")
    out = work / "cli"
    command = [sys.executable, "-m", "medseg.cli", "run", "ich-compact", str(series), "-o", str(out), "--no-scene"]
    subprocess.run(command, check=True, capture_output=True)
    rows = list(csv.DictReader((out / "slices.csv").open()))
    names = [bar["name"] for bar in page.state("bars")]
    plot = page.state("plot")["data"]
    worst = max(abs(float(row[n]) - line["y"][k]) for n, line in zip(names, plot, strict=True)
                for k, row in enumerate(rows))  # fmt: skip
    check(len(rows) == 28 and worst < 1e-5, f"28 slices, at most {worst:.1e} from those of medseg run")
    for brain in [w for w in page.state("windows") if w["title"].startswith("Brain")]:
        page.set("level", brain["level"])
        page.set("width", brain["width"])
    page.picture(pictures, "2-probabilities")
    for index in (2, 12, 26):
        page.click_point(index)
        page.wait(lambda index=index: page.state("slice_number") == index + 1, 10, f"slice {index + 1}")
        shown = {bar["name"]: float(bar["text"]) for bar in page.state("bars")}
        near = max(abs(shown[n] - float(rows[index][n])) for n in names)
        check(near < 6e-4, f"slice {index + 1}: the bars are its row of slices.csv")
    page.picture(pictures, "3-another-slice")


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
            haemorrhage(page, given.data, given.pictures, work)
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
