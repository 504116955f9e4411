"""Every kind of nnU-Net v2 result, imported and run, against nnU-Net's own predictor: prints how many voxels agree.

``python Testing/library/nnunet_kinds.py --environment PYTHON [KIND...]``; PYTHON has ``nnunetv2`` and is a virtual
environment's folder or interpreter. About ten minutes for all on two cores; ``--keep FOLDER`` keeps what was made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg import load_model, read_volume, run
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.environment import clean_environment, given_environment
from medseg.pipeline.infer import infer
from medseg.pipeline.preprocess import prepare

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "nnunet_folders.py"
#: What the issue asks for: the least share of equal voxels, and the least Dice of each class.
EQUAL, DICE = 0.9995, 0.999


@dataclass(frozen=True)
class Outcome:
    """How MedSeg compares with nnU-Net on one kind; ``prepared``: largest difference of what
    the networks got; ``logits``: mean difference of what came out, as a share of the largest. (At the corners of the
    volume the weights are so small that half precision leaves two or three steps; one step there is much.)"""

    kind: str
    prepared: float
    logits: float
    equal: float
    dice: dict[str, float]
    on_card: float

    @property
    def good(self) -> bool:
        return self.equal >= EQUAL and min(self.dice.values()) >= DICE

    def row(self) -> str:
        dice = ", ".join(f"{name} {value:.5f}" for name, value in self.dice.items())
        return (
            f"{self.kind:22s} | {self.prepared:8.1e} | {self.logits:7.1e} | {self.equal:9.4%} | {self.on_card:9.4%} | "
            f"{dice}{'' if self.good else '   <-- too little'}"
        )


def make(python: Path, folder: Path, kinds: list[str]) -> None:
    """The results, images and nnU-Net's labels of ``kinds`` in ``folder``, by nnU-Net in ``python``'s environment."""
    interpreter = given_environment(python, "torch, nnunetv2")
    command = [str(interpreter), "-I", str(SCRIPT), str(folder), *kinds]
    done = subprocess.run(command, env=clean_environment(), text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])


def compare(python: Path, folder: Path) -> Outcome:
    """Import ``folder`` / result and run it on ``folder`` / images; both against nnU-Net's own."""
    names = sorted(p.name for p in (folder / "result").iterdir())
    choices = {"configuration": "3d_cascade_fullres"} if len(names) > 1 else {}
    target = folder / "package"
    options = ImportOptions(choices=choices, environment=python, overwrite=True)
    model = load_model(import_model(folder / "result", None, target, options=options))
    volumes = [read_volume(p) for p in sorted((folder / "images").glob("*.nii.gz"))]
    result = run(model, volumes, device="cpu")
    found = result.layers[0].labels
    wanted = np.asarray(nibabel.load(folder / "labels.nii.gz").dataobj).transpose(2, 1, 0)
    dice = {}
    for item in result.layers[0].classes:
        ours, theirs = found == item.value, wanted == item.value
        both = int(ours.sum() + theirs.sum())
        dice[item.name] = float(2 * (ours & theirs).sum() / both) if both else 1.0
    prepared, logits = _stages(model, volumes, folder / "stages.npz")
    share = json.loads((target / "import.json").read_text()).get("equal_voxels", float("nan"))
    return Outcome(folder.name, prepared, logits, float((found == wanted).mean()), dice, share)


def _stages(model: Any, volumes: Any, stages: Path) -> tuple[float, float]:
    from medseg.engine.session import Session
    from medseg.monitor import Monitor
    from medseg.pipeline.labels import run_required
    from medseg.pipeline.options import RunOptions

    monitor = Monitor()
    with np.load(stages) as stored:
        wanted_input, wanted_logits = stored["prepared"], stored["logits"]
    masks = run_required(model, volumes, RunOptions(device="cpu"), monitor, None)
    prepared = prepare(model.manifest, volumes, masks=masks)
    session = Session.open(model, "cpu", monitor=monitor)
    maps: Any = infer(model.manifest, prepared, session, monitor, keep="logits")
    session.close()
    if prepared.array.shape != wanted_input.shape:
        print(f"prepared {prepared.array.shape}, nnU-Net {wanted_input.shape}")
        return float("inf"), float("inf")
    found = maps.logits().astype(np.float64)
    return (
        float(np.abs(prepared.array - wanted_input).max()),
        float(np.abs(found - wanted_logits.astype(np.float64)).mean() / np.abs(wanted_logits).max()),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        make(asked.environment, folder, asked.kinds)
        print("kind                   | prepared | logits  | voxels equal | on card | Dice per class")
        outcomes = []
        for place in sorted(folder.iterdir()):
            if asked.kinds and place.name not in asked.kinds:
                continue
            outcomes.append(compare(asked.environment, place))
            print(outcomes[-1].row(), flush=True)
    return 0 if all(o.good for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
