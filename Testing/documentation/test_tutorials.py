"""The tutorials work as typed, and name what is there: who fails at step one does not try step two."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documentation.tutorials import (
    FOLDER,
    ROOT,
    TUTORIALS,
    blocks,
    codes,
    files_named,
    keys_named,
    keys_of_the_review,
    labels_named,
    pattern,
    words_of_the_panel,
)
from medseg.model.store import installed_models
from support.commands import missing_options

#: Slicer's own modules.
SLICERS = {"Sample Data", "DICOM"}

every_tutorial = pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)


def run_blocks(text: str, folder: Path) -> None:
    """Do what a reader does: save the files, type the commands, look whether the output is as shown."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MEDSEG_DATA_DIR": str(folder.parent / "data"),
        "MEDSEG_CACHE_DIR": str(folder.parent / "cache"),
        "COLUMNS": "120",
    }
    said = ""
    for block in blocks(text):
        if block.kind == "python":
            assert block.name, "a python block is a file and needs its name"
            (folder / block.name).write_text(block.content, encoding="utf-8")
        elif block.kind == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.content],
                cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False,
            )  # fmt: skip
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{block.content}\n{said}"
        elif block.kind == "text":
            for line in block.content.splitlines():
                assert re.search(pattern(line), said, re.MULTILINE), f"not said: {line}\n{said}"
        else:
            raise AssertionError(f"nobody runs a block of kind {block.kind!r}")


@pytest.mark.timeout(900)  # some ten commands; seconds on a machine of one's own
@pytest.mark.skipif(shutil.which("bash") is None, reason="the tutorials are written for bash, which is not installed")
@every_tutorial
def test_the_commands_work_in_their_order_as_typed(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if "medseg[report]" in text:
        pytest.importorskip("jinja2", reason="Jinja2 is not installed (pip install 'medseg[report]')")
    if "medseg[dicom]" in text:
        pytest.importorskip("highdicom", reason="highdicom is not installed (pip install 'medseg[dicom]')")
    folder = tmp_path / "work"
    folder.mkdir()
    run_blocks(text, folder)
    assert [f for f in files_named(text) if not (folder / f).exists()] == []


def test_an_output_that_is_not_as_shown_is_noticed(tmp_path: Path) -> None:
    """The runner itself: else a tutorial could promise anything."""
    right = "```sh\necho one two\n```\n```text\none ...\n```\n"
    run_blocks(right, tmp_path)
    for old, new in (("one ...", "three"), ("echo", "false; echo"), ("sh\n", "ruby\n")):
        with pytest.raises(AssertionError):
            run_blocks(right.replace(old, new), tmp_path)


@every_tutorial
def test_every_command_in_the_prose_exists(path: Path) -> None:
    lines = [c for c in codes(path.read_text(encoding="utf-8")) if c.startswith("medseg ")]
    assert [(line, missing) for line in lines if (missing := missing_options(line)) != []] == []


@every_tutorial
def test_every_button_menu_and_box_is_called_so_in_the_panel(path: Path) -> None:
    """A reader looks for the word; a renamed button stops the tour."""
    words, titles = words_of_the_panel() | SLICERS, [card.title for card in installed_models()]
    named = set(labels_named(path.read_text(encoding="utf-8")))
    assert {n for n in named if n not in words and not any(t.startswith(n) for t in titles)} == set()
    if path.stem == "tutorial-slicer":
        assert len(named) > 30


@every_tutorial
def test_every_key_does_something(path: Path) -> None:
    assert keys_named(path.read_text(encoding="utf-8")) <= keys_of_the_review()


def test_each_tutorial_is_found_from_the_readme_and_its_links_lead_somewhere() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(TUTORIALS) == 4
    for path in sorted(FOLDER.glob("*.md")):
        assert f"(Documentation/{path.name})" in readme, path.name
        targets = re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", path.read_text(encoding="utf-8"))
        missing = [t for t, _ in targets if t and "://" not in t and not (path.parent / t).exists()]
        assert not missing, path.name
