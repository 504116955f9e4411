"""Small MONAI bundles of several kinds, imported and run, against MONAI's own run: prints how many voxels agree.

``python Testing/library/monai_kinds.py --environment PYTHON [KIND...]``; PYTHON has ``monai`` and is a virtual
environment's folder or interpreter.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from medseg import load_model, read_volume, run
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.environment import clean_environment, given_environment

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "monai_bundles.py"
KINDS = (
    "segresnet-pt", "segresnet-ts", "swinunetr-pt", "swinunetr-ts", "unet-percentiles", "basicunet-sigmoid",
)  # fmt: skip
#: What the issue asks for: the least share of equal voxels, and the least Dice of each class.
EQUAL, DICE = 0.9995, 0.999


@dataclass(frozen=True)
class Outcome:
    """How MedSeg compares with MONAI on one kind."""

    kind: str
    equal: float
    differ: int
    dice: dict[str, float]

    def row(self) -> str:
        """A line of the table."""
        classes = " ".join(f"{name} {value:.5f}" for name, value in self.dice.items())
        good = self.equal >= EQUAL and min(self.dice.values()) >= DICE
        return f"{self.kind:18} {self.equal:10.5%} {self.differ:8} {classes}  {'yes' if good else 'NO'}"


def image(path: Path) -> None:
    """A smooth body with structures in air, oblique, its axes not those of the patient's."""
    random = np.random.default_rng(11)
    shape = (70, 80, 44)
    noise = sum(ndimage.gaussian_filter(random.standard_normal(shape), s) * s**1.5 for s in (1.5, 4))
    inside = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2) / np.array([30, 36, 19]), axis=-1).T < 1
    values = np.where(inside, 60 + 50 * noise / noise.std(), 0)
    turn = np.deg2rad(6)
    direction = np.array([[0, -np.cos(turn), np.sin(turn)], [1, 0, 0], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = direction * [1.3, 1.2, 2.4]
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


def compare(python: Path, kind: str, folder: Path) -> Outcome:
    """Make, import and run one kind; MONAI's own run beside it."""
    bundle, picture, wanted = folder / kind, folder / "image.nii.gz", folder / f"{kind}.npy"
    image(picture)
    command = [str(given_environment(python, "monai")), str(SCRIPT)]
    for words in (["make", kind, str(bundle)], ["run", str(bundle), str(picture), str(wanted)]):
        subprocess.run([*command, *words], check=True, env=clean_environment(), capture_output=True, text=True)
    package = import_model(bundle, None, folder / f"{kind}.zip", options=ImportOptions(environment=python))
    result = run(load_model(package), read_volume(picture), device="cpu")
    labels = np.load(wanted).transpose(0, 3, 2, 1)
    equal = np.ones(labels.shape[1:], dtype=bool)
    dice = {}
    for item in load_model(package).manifest.classes:
        mine = result.mask(item.name)
        theirs = labels[item.value - 1] > 0 if len(labels) > 1 else labels[0] == item.value
        equal &= mine == theirs
        both = mine.sum() + theirs.sum()
        dice[item.name] = 2 * float((mine & theirs).sum()) / both if both else 1.0
    return Outcome(kind, float(equal.mean()), int((~equal).sum()), dice)


def main() -> int:
    """Print the table; 1 where a kind is below what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    print(f"{'bundle':18} {'equal':>10} {'differ':>8} Dice of each class; at least {EQUAL:.2%} and {DICE}")
    worst = 0
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            row = compare(given.environment, kind, Path(folder)).row()
        print(row, flush=True)
        worst |= row.endswith("NO")
    return worst


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
