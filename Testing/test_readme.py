"""What the README promises works as typed; a newcomer loses trust with the first line that does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medseg import phantoms
from medseg.cli.demonstration import write_phantom

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_python_lines_run_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    written = write_phantom(phantoms.swi(5, microbleeds=8), tmp_path / "demo-output/inputs/cmb-compact", dicom=False)
    assert written.relative_to(tmp_path).as_posix() in lines
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["result"].mask("microbleed").shape == names["volume"].grid.shape
    assert (tmp_path / "microbleeds" / "segmentation.seg.nrrd").is_file()
    assert (tmp_path / "microbleeds" / "lesions.csv").is_file()


def test_every_file_that_the_readme_names_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert targets
    missing = [t for t in targets if not (README.parent / t).exists()]
    assert not missing
