"""A screen for the tests: the given one, an Xvfb of our own, or Qt's offscreen platform."""

from __future__ import annotations

import os
import shutil
import subprocess


def ensure_display(size: str = "1700x1200x24") -> str:
    """Make sure that Qt has a platform; returns its name (``xcb`` or ``offscreen``)."""
    if os.environ.get("QT_QPA_PLATFORM"):
        return os.environ["QT_QPA_PLATFORM"]
    if os.environ.get("DISPLAY"):
        return "xcb"
    if shutil.which("Xvfb") is None:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        return "offscreen"
    read, write = os.pipe()
    # -terminate: the server ends with its last client, which is this process, however it ends.
    subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp", "-terminate"],
        pass_fds=[write],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if not number:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
        return "offscreen"
    os.environ["DISPLAY"] = f":{number}"
    os.environ["QT_QPA_PLATFORM"] = "xcb"
    return "xcb"
