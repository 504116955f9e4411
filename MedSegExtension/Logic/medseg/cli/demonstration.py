"""``medseg demo``: the shipped compact models on synthetic volumes with known truth, no download needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError, OutputError
from .background import Writing
from .case import Case
from .cases import Work, run_case, told
from .console import Command

if TYPE_CHECKING:
    from ..phantoms import Phantom


@dataclass(frozen=True)
class Show:
    """One demonstration: the id of a shipped model, 2D or 3D, what is drawn, and how the drawing becomes a file."""

    model: str
    kind: str
    what: str
    draw: Callable[[], Phantom]
    dicom: bool = False


def shows() -> list[Show]:
    """All demonstrations; those whose model is not shipped are left out when it runs."""
    from .. import phantoms

    return [
        Show("ich-compact", "2D", "head CT with bleeds (DICOM)",
             lambda: phantoms.head_ct(7, bleeds=["intraparenchymal", "subdural"]), dicom=True),
        Show("wmh-compact", "2D", "FLAIR with white matter lesions", lambda: phantoms.flair(5)),
        Show("cmb-compact", "3D", "SWI with microbleeds", lambda: phantoms.swi(5, microbleeds=8)),
    ]  # fmt: skip


def demo_command(command: Command, output: Path, *, device: str, force: bool) -> int:
    """Draw, write as files, run as a user would, and say where to look."""
    from ..model.package import load_model
    from ..model.store import installed_models
    from ..output.folder import check_output
    from ..pipeline.run import RunOptions

    installed = {card.id for card in installed_models() if not card.error and card.has_weights}
    chosen = [show for show in shows() if show.model in installed]
    if {show.kind for show in chosen} != {"2D", "3D"}:
        raise ModelError(
            "The demonstration needs the shipped models ich-compact or wmh-compact (2D) and cmb-compact (3D); "
            f"found are: {', '.join(sorted(installed)) or 'none'}. Install MedSeg again."
        )
    for show in chosen:
        check_output(output / show.model, force=force)
    outcomes: list[dict[str, Any]] = []
    pictures: list[Path] = []
    written: list[Writing] = []
    with command.reporter:
        for show in chosen:
            command.reporter.begin(show.model)
            phantom = show.draw()
            source = write_phantom(phantom, output / "inputs" / show.model, dicom=show.dicom)
            work = Work(load_model(show.model), RunOptions(device=device), force=force)
            channel = work.model.manifest.channels[0].name
            case = Case(f"{show.model} on {show.what}", {channel: source}, output / show.model)
            run_case(command, work, case, lambda _, writing: written.append(writing))
            work.writer.settle()
            work.networks.clear()
            outcome = told(command, case, written.pop())
            truth = compare(outcome, phantom, case.folder)
            for sentence in truth:
                command.say(f"  {sentence}")
            command.say()
            outcome["truth"] = truth
            outcomes.append(outcome)
            pictures += [p for p in [case.folder / "preview.png"] if p.exists()]
    command.document["results"] = outcomes
    command.say(
        "The volumes are drawings and the models are small: this shows the software, not what it is worth in patients."
    )
    command.say(f"Pictures: {', '.join(map(str, pictures)) or 'none (see the warnings)'}")
    command.say(f"Tables (.csv), segmentations (.seg.nrrd) and scenes (scene.mrb, for 3D Slicer): under {output}")
    return 0


def write_phantom(phantom: Phantom, folder: Path, *, dicom: bool) -> Path:
    """The phantom as a DICOM series or an NRRD file that says its modality; the path to read."""
    import SimpleITK as sitk

    from ..phantoms import write_dicom_series

    try:
        folder.mkdir(parents=True, exist_ok=True)
        if dicom:
            write_dicom_series(phantom, folder)
            return folder
        image: Any = sitk.GetImageFromArray(phantom.volume.array)
        phantom.volume.grid.place(image)
        image.SetMetaData("modality", phantom.volume.modality or "")
        path = folder / f"{phantom.volume.name.replace(' ', '_')}.nrrd"
        sitk.WriteImage(image, str(path), True)
    except (OSError, RuntimeError) as error:
        raise OutputError(f"The synthetic volumes cannot be written to {folder}: {error}.") from error
    return path


def compare(outcome: dict[str, Any], phantom: Phantom, folder: Path) -> list[str]:
    """How the result fits what was drawn, in sentences."""
    slices = outcome["tables"].get("slices")
    if slices is not None and phantom.slice_labels is not None:
        drawn = phantom.slice_labels[:, 0] > 0
        score = np.array([row["any"] for row in slices], dtype=float)
        found = score > 0.5
        return [
            f"drawn: a bleed in {int(drawn.sum())} of {len(drawn)} slices; found (probability over 0.5): "
            f"{int((found & drawn).sum())} of them, and {int((found & ~drawn).sum())} slices without one"
        ]
    import SimpleITK as sitk

    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "segmentation.seg.nrrd")))
    sentences = []
    by_name = {str(s["name"]).lower(): s for s in outcome["result"]["segments"]}
    for value, name in phantom.classes.items():
        segment = by_name.get(name.lower())
        if segment is None:
            continue
        layer = labels[..., segment["layer"]] if labels.ndim == 4 else labels
        mask, drawn = layer == segment["value"], phantom.labels == value
        both = int((mask & drawn).sum())
        dice = 2 * both / max(1, int(mask.sum()) + int(drawn.sum()))
        sentences.append(f"{name}: Dice {dice:.2f} with what was drawn")
    if phantom.lesions:
        hits = sum(_hit(lesion, labels > 0, phantom) for lesion in phantom.lesions)
        sentences.append(f"drawn: {len(phantom.lesions)} microbleeds, of which {hits} were found")
    return sentences


def _hit(lesion: dict[str, Any], mask: np.ndarray[Any, Any], phantom: Phantom) -> bool:
    """True where the mask reaches the drawn lesion (its truth voxels within its radius)."""
    grid = phantom.volume.grid
    centre = np.rint(grid.to_index(lesion["center"])).astype(int)
    reach = np.maximum(1, np.ceil(lesion["diameter_mm"] / 2 / np.array(grid.spacing))).astype(int)
    low = np.maximum(centre - reach, 0)
    high = centre + reach + 1
    window = tuple(slice(int(low[a]), int(high[a])) for a in (2, 1, 0))
    return bool((mask[window] & (phantom.labels[window] > 0)).any())
