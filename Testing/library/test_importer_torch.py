"""PyTorch programs become packages that compute the same. Needs PyTorch, which a throw-away environment brings.

Run by ``make test-recipes``; ``MEDSEG_TORCH_ENVIRONMENT`` names an environment that has it already. What is refused in
such files is tested without PyTorch in ``test_importer_environment.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from medseg import load_model
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.environment import environment
from medseg.library.importer.from_torch import MODULES, REQUIREMENTS
from medseg.monitor import Monitor

PROGRAM = """
import sys, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(8, 6), nn.Sigmoid(),
).eval()
x = torch.randn(2, 3, 256, 256)
batch = torch.export.Dim("n", min=1, max=64)
torch.export.save(torch.export.export(net, (x,), dynamic_shapes=({0: batch},)), sys.argv[1] + "/program.pt2")
torch.jit.trace(net, x).save(sys.argv[1] + "/script.pt")
"""


@pytest.mark.recipes
@pytest.mark.timeout(1800)
def test_pytorch_programs_are_imported(tmp_path: Path) -> None:
    named = os.environ.get("MEDSEG_TORCH_ENVIRONMENT")
    given = Path(named) if named else None
    with environment(REQUIREMENTS, MODULES, python=given, wheels=None, monitor=Monitor()) as found:
        made = subprocess.run(
            [*found.command, "-c", PROGRAM, str(tmp_path)], env=found.variables, capture_output=True, check=False
        )
        assert made.returncode == 0, made.stderr[-2000:]
        for name in ("program.pt2", "script.pt"):
            monitor = Monitor()
            target = tmp_path / f"package-{name}"
            options = ImportOptions(environment=Path(found.command[0]))
            package = import_model(tmp_path / name, "ich-resnet50", target, monitor=monitor, options=options)
            record = json.loads((package / "import.json").read_text())
            assert record["largest_difference"] <= 1e-5 and record["parameters"] == 294
            assert load_model(package).manifest.inputs[0].layout == "NCHW"
            assert any("a program that was run" in text for text in monitor.warnings) == (name == "script.pt")
