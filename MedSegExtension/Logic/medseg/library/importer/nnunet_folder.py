"""What an nnU-Net v2 folder or zip holds: results, configurations, folds, checkpoints; nothing is converted here."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError, MedSegError, ModelError
from . import nnunet_manifest as parts
from .bundles import Raw, read_description

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
CASCADE = "3d_cascade_fullres"
_LIMIT = 32 << 30


@dataclass(frozen=True)
class Network:
    """One trained configuration. ``previous``: the stage that runs before it, in a cascade."""

    folder: Path
    name: str
    plan: Raw
    plans: Raw
    dataset: Raw
    checkpoints: Sequence[Path]
    previous: Network | None = None

    @property
    def folds(self) -> list[str]:
        return [c.parent.name.removeprefix("fold_") for c in self.checkpoints]


@dataclass(frozen=True)
class Understood:
    """One result as a user chooses it, in plain values. ``problem``: why it cannot be imported, or "".

    ``spacing`` in mm and ``patch`` in voxels are in the order x, y, z of the network. ``previous``: the configuration
    of the stage that runs before it. ``megabytes``: of all checkpoints that count.
    """

    folder: str
    configuration: str
    title: str = ""
    dimensions: int = 3
    folds: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    spacing: list[float] = field(default_factory=list)
    patch: list[int] = field(default_factory=list)
    previous: str = ""
    megabytes: float = 0.0
    problem: str = ""


def understood(path: Path) -> list[dict[str, Any]]:
    """What the folder or zip ``path`` holds, a plain `Understood` for each result; `InputError` where there is none."""
    with opened(path, weights=False) as root:
        found = result_folders(root)
        if not found:
            raise InputError(f"{path.name} holds no nnU-Net v2 result (a folder with plans.json and dataset.json).")
        sizes = _sizes(path, root)
        return [asdict(_understood(folder, root, sizes)) for folder in found]


def _understood(folder: Path, root: Path, sizes: Mapping[str, int]) -> Understood:
    where = folder.relative_to(root).as_posix() if folder != root else folder.name
    try:
        network = read_network(folder, {})
        classes, _ = parts.labels(network.dataset)
        parts.preprocessing(network.plan, network.plans, parts.channel_names(network.dataset))
    except MedSegError as error:
        return Understood(where, folder.name.split("__")[-1], problem=str(error))
    patch = [int(n) for n in network.plan["patch_size"]]
    named = network.dataset.get("name") or network.plans.get("dataset_name") or folder.parent.name
    stages = [network, *([network.previous] if network.previous else [])]
    problem = "" if all(s.checkpoints for s in stages) else "there is no checkpoint of any fold in it"
    if problem and any(folder.rglob("*.onnx")):
        problem = ""
    return Understood(
        where, network.name, str(named), len(patch), network.folds, parts.channel_names(network.dataset),
        [c["name"] for c in classes], [float(s) for s in reversed(network.plan["spacing"])], patch[::-1],
        network.previous.name if network.previous else "",
        round(sum(sizes.get(str(c), 0) for s in stages for c in s.checkpoints) / 1e6, 1), problem,
    )  # fmt: skip


def _sizes(path: Path, root: Path) -> dict[str, int]:
    if path.is_dir():
        return {str(p): p.stat().st_size for p in root.rglob("*.pth")}
    with zipfile.ZipFile(path) as archive:
        return {str(root.joinpath(*PurePosixPath(i.filename).parts)): i.file_size for i in archive.infolist()}


# -- one result ---------------------------------------------------------------------------------------------


def read_network(folder: Path, choices: Mapping[str, str]) -> Network:
    """The result in ``folder`` with the chosen folds; of a cascade with the stage before it, from the folder beside."""
    plans, dataset = read_description(folder / "plans.json"), read_description(folder / "dataset.json")
    name, plan = _configuration(folder, plans, choices)
    previous = None
    if plan.get("previous_stage"):
        before = str(plan["previous_stage"])
        place = _beside(folder, before)
        wanted = {k: v for k, v in choices.items() if k in ("folds", "checkpoint")}
        previous = read_network(place, {**wanted, "configuration": before})
        if previous.previous is not None:
            raise ModelError(f"plans.json: {before} is itself the second stage of a cascade; that is not known.")
    return Network(folder, name, plan, plans, dataset, _checkpoints(folder, choices), previous)


def _beside(folder: Path, configuration: str) -> Path:
    """The folder of another configuration of the same training; `InputError` where it is not there."""
    trainer = folder.name.rpartition("__")[0]
    others = [p for p in result_folders(folder.parent) if p.name.split("__")[-1] == configuration]
    same = [p for p in others if p.name.rpartition("__")[0] == trainer] or others
    if len(same) != 1:
        raise InputError(
            f"{folder.name} is the second stage of a cascade; it needs the result of {configuration} in a folder "
            f"beside it ({trainer or 'nnUNetTrainer__nnUNetPlans'}__{configuration}), and "
            f"{'there is none' if not same else 'there are several'}."
        )
    return same[0]


def _checkpoints(folder: Path, choices: Mapping[str, str]) -> list[Path]:
    """One checkpoint of each chosen fold; none where an ONNX file was chosen, or there are no checkpoints."""
    if choices.get("onnx"):
        return []
    asked = choices.get("checkpoint")
    names = (asked,) if asked else CHECKPOINTS
    present: dict[str, Path] = {}
    for place in sorted(folder.glob("fold_*")):
        file = next((place / n for n in names if (place / n).is_file() and "/" not in n and "\\" not in n), None)
        if file is not None:
            present[place.name.removeprefix("fold_")] = file
    wanted = choices.get("folds", "")
    if wanted in ("", "all"):
        # The network trained on all cases is a fold called "all"; it is no part of the ensemble of the others.
        numbered = {k: v for k, v in present.items() if k != "all"}
        return list((numbered or present).values())
    chosen_names = [w.strip().removeprefix("fold_") for w in wanted.split(",") if w.strip()]
    missing = [w for w in chosen_names if w not in present]
    if missing:
        raise InputError(
            f"{folder.name} has no checkpoint of the fold {missing[0]!r}; it has {', '.join(present) or 'none'} "
            f"({' or '.join(str(n) for n in names)})."
        )
    return [present[w] for w in dict.fromkeys(chosen_names)]


def _configuration(folder: Path, plans: Raw, choices: Mapping[str, str]) -> tuple[str, Raw]:
    known = plans.get("configurations", {})
    named = folder.name.split("__")[-1]
    name = choices.get("configuration") or (named if named in known else "")
    if not name:
        name = next((c for c in ("3d_fullres", "2d") if c in known), "")
    if name not in known:
        raise InputError(
            f"plans.json has the configurations {', '.join(known) or 'none'}; choose one (configuration=NAME)."
        )
    plan: Raw = {}
    chain, at = [], name
    while at and at not in chain:
        chain.append(at)
        at = known.get(at, {}).get("inherits_from", "")
    for step in reversed(chain):
        plan |= known[step]
    for needed in ("patch_size", "spacing", "normalization_schemes"):
        if needed not in plan:
            raise ModelError(f"plans.json: the configuration {name} has no {needed}.")
    preprocessor = str(plan.get("preprocessor_name", "DefaultPreprocessor"))
    if preprocessor != "DefaultPreprocessor":
        raise ModelError(f"plans.json: the preparation {preprocessor!r} is not nnU-Net's own and cannot be repeated.")
    return name, plan


# -- folders and archives -----------------------------------------------------------------------------------


def result_folder(root: Path, choices: Mapping[str, str]) -> Path:
    """The folder of one trained configuration in ``root`` (itself, or a data set's folder with several of them)."""
    found = result_folders(root)
    wanted = choices.get("configuration")
    fitting = [f for f in found if f.name.split("__")[-1] == wanted] if wanted and len(found) > 1 else found
    if len(fitting) == 2 and {f.name.split("__")[-1] for f in fitting} == {"3d_lowres", CASCADE}:
        fitting = [f for f in fitting if f.name.endswith(CASCADE)]  # the two stages of one cascade
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f.relative_to(root).as_posix() for f in found)
    if not found:
        raise InputError(f"{root.name} holds no nnU-Net v2 result (a folder with plans.json and dataset.json).")
    raise InputError(
        f"{root.name} holds several results ({names}); choose one of these folders, or its configuration "
        "(configuration=NAME)."
    )


def result_folders(root: Path) -> list[Path]:
    """Folders with ``plans.json`` and ``dataset.json``: ``root`` itself, or those below it."""
    if (root / "plans.json").is_file() and (root / "dataset.json").is_file():
        return [root]
    below = [p.parent for pattern in ("*/plans.json", "*/*/plans.json", "*/*/*/plans.json") for p in root.glob(pattern)]
    return sorted(p for p in below if (p / "dataset.json").is_file())


@contextmanager
def opened(path: Path, *, weights: bool = True) -> Iterator[Path]:
    """The folder ``path``, or the archive unpacked into a folder that vanishes again; a file's own folder else."""
    if path.is_file() and zipfile.is_zipfile(path):
        with _unpacked(path, weights) as folder:
            yield folder
        return
    yield path if path.is_dir() else path.parent


@contextmanager
def _unpacked(path: Path, weights: bool) -> Iterator[Path]:
    """The descriptions, checkpoints and ONNX files of an archive; without ``weights`` these are empty files."""
    with tempfile.TemporaryDirectory(prefix="medseg-nnunet-") as scratch, zipfile.ZipFile(path) as archive:
        wanted = [i for i in archive.infolist() if i.filename.endswith((".json", ".pth", ".onnx")) and not i.is_dir()]
        if sum(i.file_size for i in wanted) > _LIMIT:
            raise ModelError(f"{path.name}: what it unpacks to is larger than {_LIMIT >> 30} GB.")
        for info in wanted:
            inner = PurePosixPath(info.filename.replace("\\", "/"))
            if inner.is_absolute() or ".." in inner.parts or ":" in info.filename:
                raise ModelError(f"{path.name}: {info.filename!r} would be written outside its folder.")
            target = Path(scratch).joinpath(*inner.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not weights and not info.filename.endswith(".json"):
                target.touch()
                continue
            with archive.open(info) as source, target.open("wb") as out:
                shutil.copyfileobj(source, out)
        yield Path(scratch)
