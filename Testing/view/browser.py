"""A server of the page and a browser before it, as the checks of `drive_page` use them."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import SimpleITK as sitk
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
        self._read()

    def drop(self, paths: list[Path]) -> None:
        """Drag files or folders onto the page and let them go, by the browser's own events."""
        self.set("problem", "")
        data = {"items": [], "files": [str(p) for p in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            event = {"type": kind, "x": 160, "y": 120, "data": data}
            self.browser.execute_cdp_cmd("Input.dispatchDragEvent", event)
        self._read()

    def _read(self) -> None:
        self.wait(lambda: self.state("busy") or self.state("problem"), 10, "the upload did not start")
        self.wait(lambda: not self.state("busy"), 120, "reading")

    def run(self, seconds: float = 240) -> None:
        """Press *Run* and wait for its end."""
        self.click("run")
        self.wait(lambda: self.state("busy") == "run", 10, "the run did not start")
        self.wait(lambda: not self.state("busy"), seconds, "the run")

    def click_window(self, title: str) -> None:
        """Click on a window preset whose name begins so."""
        chips = self.browser.find_elements(By.CSS_SELECTOR, "#image .v-chip")
        next(chip for chip in chips if chip.text.startswith(title)).click()

    def pixels(self) -> np.ndarray[Any, Any]:
        """What is seen between the two columns: (rows, columns, RGB)."""
        time.sleep(1.0)
        self.browser.save_screenshot(str(self.temporary.parent / "pixels.png"))
        picture = sitk.GetArrayFromImage(sitk.ReadImage(str(self.temporary.parent / "pixels.png")))
        self.last = np.asarray(picture[100:-60, 380:-480, :3], dtype=int)
        return self.last

    def seen(self, right: Callable[[Any], Any], seconds: float = 120) -> bool:
        """Whether the picture, `last`, becomes so; the views are streamed, and a busy machine takes its time."""
        end = time.monotonic() + seconds
        while not right(self.pixels()):
            if time.monotonic() > end:
                return False
        return True

    def click(self, identifier: str) -> None:
        self.browser.find_element(By.ID, identifier).click()

    def click_point(self, index: int) -> None:
        """Click on a point of the first line of the plot, as a reader does."""
        points = self.browser.find_elements(By.CSS_SELECTOR, "#scores .scatterlayer .trace:first-child path.point")
        ActionChains(self.browser).move_to_element(points[index]).pause(0.3).click().perform()

    def click_row(self, table: str, row: int) -> None:
        """Click on a row of a table, which takes the views there."""
        names = [one["name"] for one in self.state("tables")]
        self.set("table", names.index(table))
        time.sleep(0.5)
        self.browser.find_elements(By.CSS_SELECTOR, "#tables tbody tr")[row].click()

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
