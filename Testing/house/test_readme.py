"""What the README promises works as typed; a newcomer loses trust with the first line that does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medseg import phantoms
from medseg.cli import app
from medseg.cli.demonstration import write_phantom
from medseg.library.catalogue import catalogue_states, markdown_table
from support.commands import missing_options

README = Path(__file__).resolve().parents[2] / "README.md"


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


def commands() -> list[str]:
    pages = [README, *sorted((README.parent / "Documentation").glob("[!t]*.md"))]  # a tutorial's are run as typed
    blocks = [b for page in pages for b in re.findall(r"```\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.startswith("medseg ")]


@pytest.mark.parametrize("line", commands())
def test_every_command_that_is_named_exists(line: str) -> None:
    """Command, sub-command and options as they are written; what they do is tested elsewhere."""
    for alternative in line.split(" | ")[1:]:
        assert CliRunner().invoke(app, ["models", alternative, "--help"]).exit_code == 0, alternative
    assert not missing_options(line.split(" | ")[0])


def test_the_table_of_published_models_is_the_recipes_and_the_catalogue() -> None:
    """A model that is missing here is one that nobody finds."""
    published = [state for state in catalogue_states() if state.formats]
    page = (README.parent / "Documentation" / "models.md").read_text(encoding="utf-8")
    assert len(published) == 32 and markdown_table(published) in page


def test_every_file_that_the_readme_names_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in t]
    assert targets
    missing = [t for t in targets if not (README.parent / t).exists()]
    assert not missing
