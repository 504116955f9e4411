"""``medseg view`` where its packages are not there: a sentence, not a traceback."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from medseg.cli import app


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "medseg_view.server", None)
    done = CliRunner().invoke(app, ["view", "--no-browser"])
    assert done.exit_code == 2 and 'pip install "medseg[view]"' in done.output
