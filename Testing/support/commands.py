"""Whether a command line that a page shows exists, without running it."""

from __future__ import annotations

import re

from typer.testing import CliRunner

from medseg.cli import app

#: Commands that have commands of their own.
_GROUPS = ("models", "review")


def missing_options(line: str) -> list[str]:
    """What of ``medseg ...`` is not there: the command itself, or options as they are written."""
    words = line.split()[1:]
    names = words[: 2 if words[0] in _GROUPS else 1]
    help_text = CliRunner().invoke(app, [*names, "--help"])
    if help_text.exit_code != 0:
        return [" ".join(names)]
    return [w for w in words if w.startswith("-") and not re.search(rf"(?<!\S){re.escape(w)}\b", help_text.output)]
