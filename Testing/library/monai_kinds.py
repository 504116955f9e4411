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
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from medseg import load_model, read_volume, run
from medseg.engine.session import Session
from medseg.errors import MedSegError
from medseg.geometry.volume import Volume
from medseg.library.importer import ImportOptions, import_model
from medseg.library.importer.environment import clean_environment, given_environment
from medseg.model.package import Model
from medseg.monitor import Monitor
from medseg.pipeline.infer import infer
from medseg.pipeline.preprocess import prepare

SCRIPT = Path(__file__).resolve().parents[1] / "support" / "monai_bundles.py"
KINDS = (
    "segresnet-pt", "segresnet-ts", "ties-segresnet-ts", "swinunetr-pt", "swinunetr-ts", "unet-percentiles",
    "basicunet-sigmoid", "basicunetplusplus-pt", "dynunet-pt", "segresnetds-pt", "unetr-pt", "vnet-pt",
    "attentionunet-pt", "highresnet-pt", "flexibleunet-pt", "segresnetvae-pt", "ahnet-pt", "regunet-pt", "mednext-pt",
    "mednexts-pt", "segresnetds2-pt", "slices-unet-pt", "flat-unet-pt", "flat-whole-unet-ts",
)  # fmt: skip
#: What a user must say of some.
CHOICES = {"segresnetds2-pt": {"output": "1"}}
#: What the issue asks for: the least share of equal voxels, and the least Dice of each class.
EQUAL, DICE = 0.9995, 0.999


@dataclass(frozen=True)
class Outcome:
    """How MedSeg compares with MONAI on one kind.

    ``prepared``: largest difference of what the networks got; ``logits``: of what came out, as a share of the largest.
    """

    kind: str
    prepared: float
    logits: float
    equal: float
    differ: int
    dice: dict[str, float]

    def row(self) -> str:
        """A line of the table."""
        classes = " ".join(f"{name} {value:.5f}" for name, value in self.dice.items())
        return (
            f"{self.kind:20} {self.prepared:9.1e} {self.logits:9.1e} {self.equal:10.5%} {self.differ:8} {classes}  "
            f"{'yes' if self.good else 'NO'}"
        )

    @property
    def good(self) -> bool:
        """Whether it is what the issue asks for."""
        return self.equal >= EQUAL and min(self.dice.values()) >= DICE


def image(path: Path, ties: bool = False, flat: bool = False) -> None:
    """A smooth body with structures in air, oblique, its axes not those of the patient's.

    ``ties``: straight. ``flat``: its middle slice alone.
    """
    random = np.random.default_rng(11)
    shape = (70, 80, 44)
    noise = sum(ndimage.gaussian_filter(random.standard_normal(shape), s) * s**1.5 for s in (1.5, 4))
    inside = np.linalg.norm((np.indices(shape).T - np.array(shape) / 2) / np.array([30, 36, 19]), axis=-1).T < 1
    values = np.where(inside, 60 + 50 * noise / noise.std(), 0)
    turn = np.deg2rad(6)
    direction = np.array([[0, -np.cos(turn), np.sin(turn)], [1, 0, 0], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = direction * [1.3, 1.2, 2.4]
    if ties:
        affine = np.diag([-0.75, 0.75, 1.25, 1.0])
    if flat:
        values, affine = values[:, :, shape[2] // 2], np.diag([1.3, 1.2, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), affine), path)


def compare(python: Path, kind: str, folder: Path, choices: dict[str, str] | None = None) -> Outcome:
    """Make, import and run one kind; MONAI's own run beside it. ``choices``: of the import, in place of the kind's."""
    bundle, picture, wanted = folder / kind, folder / "image.nii.gz", folder / f"{kind}.npz"
    flat = kind.startswith("flat")
    image(picture, ties=kind.startswith("ties"), flat=flat)
    command = [str(given_environment(python, "monai")), str(SCRIPT)]
    for words in (["make", kind, str(bundle)], ["run", str(bundle), str(picture), str(wanted)]):
        subprocess.run([*command, *words], check=True, env=clean_environment(), capture_output=True, text=True)
    options = ImportOptions(environment=python, choices=CHOICES.get(kind, {}) if choices is None else choices)
    package = import_model(bundle, None, folder / f"{kind}.zip", options=options)
    model, volume = load_model(package), read_volume(picture)
    result = run(model, volume, device="cpu")
    with np.load(wanted) as stored:
        stages = {name: stored[name] for name in stored}
    if flat:
        stages = {name: array[..., np.newaxis] for name, array in stages.items()}
    labels = stages.pop("labels").transpose(0, 3, 2, 1)
    if flat or kind.startswith("slices"):
        # The network's slices, along z, are MedSeg's first axis.
        stages = {name: np.moveaxis(array, -1, 1) for name, array in stages.items()}
    equal = np.ones(labels.shape[1:], dtype=bool)
    dice = {}
    for item in model.manifest.classes:
        mine = result.mask(item.name)
        theirs = labels[item.value - 1] > 0 if len(labels) > 1 else labels[0] == item.value
        equal &= mine == theirs
        both = mine.sum() + theirs.sum()
        dice[item.name] = 2 * float((mine & theirs).sum()) / both if both else 1.0
    return Outcome(kind, *_stages(model, volume, stages), float(equal.mean()), int((~equal).sum()), dice)


def _stages(model: Model, volume: Volume, theirs: dict[str, np.ndarray]) -> tuple[float, float]:
    """Largest difference of the networks' inputs, and of their outputs as a share of the largest."""
    monitor = Monitor()
    prepared = prepare(model.manifest, [volume])
    wanted = theirs[sorted(name for name in theirs if name != "pred")[-1]]
    if prepared.array.shape != wanted.shape:
        return float("inf"), float("inf")
    session = Session.open(model, "cpu", monitor=monitor)
    maps: Any = infer(model.manifest, prepared, session, monitor, keep="logits")
    session.close()
    found = maps.logits().astype(np.float64)
    return (
        float(np.abs(prepared.array - wanted).max()),
        float(np.abs(found - theirs["pred"]).max() / np.abs(theirs["pred"]).max()),
    )


def main() -> int:
    """Print the table; 1 where a kind is below what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    heads = f"{'bundle':20} {'prepared':>9} {'logits':>9} {'equal':>10} {'differ':>8}"
    print(f"{heads} Dice of each class; at least {EQUAL:.2%} and {DICE}")
    worst = 0
    for kind in given.kinds:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = compare(given.environment, kind, Path(folder))
            except (MedSegError, subprocess.CalledProcessError) as error:
                said = getattr(error, "stderr", None) or str(error)
                print(f"{kind:20} failed: {said.strip().splitlines()[-1][:300]}", flush=True)
                worst = 1
                continue
        print(outcome.row(), flush=True)
        worst |= not outcome.good
    return worst


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
