"""Which mask belongs to which image: a wrong pair makes a reader correct one patient on another's image."""

from __future__ import annotations

from pathlib import Path

import pytest

from medseg.errors import InputError
from medseg.monitor import Monitor
from medseg.review.cases import find_cases


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def pairs(root: Path, monitor: Monitor | None = None, **patterns: str) -> dict[str, tuple[str, str]]:
    """Case -> image and mask, below ``root``."""
    cases = find_cases(root, monitor, **patterns)
    return {
        c.name: tuple("" if p is None else p.relative_to(root.resolve()).as_posix() for p in (c.image, c.mask))  # type: ignore[misc]
        for c in cases
    }


@pytest.mark.parametrize(
    "image, mask",
    [
        ("p1.nii.gz", "p1-mask.nii.gz"),
        ("p1.nii.gz", "p1_seg.nrrd"),
        ("p1.nii.gz", "p1-label.nrrd"),
        ("p1.nii.gz", "mask_p1.nii.gz"),
        ("p1.nii.gz", "p1_lesion_mask.nii.gz"),
        ("p1_flair.nii.gz", "p1_seg.nii.gz"),
        ("p1.nii.gz", "p1.seg.nrrd"),
        ("p1.nii.gz", "p1_reader2_mask.nii.gz"),
        ("images/p1.nii.gz", "labels/p1.nii.gz"),
        ("imagesTr/p1_0000.nii.gz", "labelsTr/p1.nii.gz"),
        ("p1/flair.nii.gz", "p1/seg.nii.gz"),
        ("a/p1.mha", "ground truth/p1.mha"),
        ("p1/scan.nii.gz", "p1/lesions_drawn_mask.nii.gz"),
        ("images/p1/t1.nii.gz", "masks/p1/t1.nii.gz"),
    ],
)
def test_the_usual_names_pair_a_mask_with_the_image_of_the_same_patient(tmp_path: Path, image: str, mask: str) -> None:
    other = [name.replace("p1", "p22") for name in (image, mask)]
    monitor = Monitor()
    found = pairs(made(tmp_path, image, mask, *other), monitor)
    assert sorted(found.values()) == sorted([(image, mask), (other[0], other[1])])
    assert not any("no mask" in w or "fit" in w for w in monitor.warnings)


def test_a_mask_never_gets_another_patients_image(tmp_path: Path) -> None:
    monitor = Monitor()
    found = pairs(made(tmp_path, "p1.nii.gz", "p9_mask.nii.gz"), monitor)
    assert found == {"p1": ("p1.nii.gz", ""), "p9_mask": ("", "p9_mask.nii.gz")}
    assert monitor.warnings == ["1 images have no mask, 1 masks have no image of their name."]


def test_a_mask_that_fits_several_images_waits_for_the_readers_word(tmp_path: Path) -> None:
    """BraTS has four images and one mask a patient: which is shown is the reader's choice, not the alphabet's."""
    names = [f"{p}/{p}_{k}.nii.gz" for p in ("B_001", "B_002") for k in ("flair", "t1", "t1ce", "seg")]
    monitor = Monitor()
    found = pairs(made(tmp_path, *names), monitor)
    assert found == {f"{p}_seg": ("", f"{p}/{p}_seg.nii.gz") for p in ("B_001", "B_002")}
    assert "2 masks fit several images each" in monitor.warnings[0] and "*flair" in monitor.warnings[0]
    chosen = pairs(tmp_path, images="*_flair")
    assert chosen == {f"{p}_flair": (f"{p}/{p}_flair.nii.gz", f"{p}/{p}_seg.nii.gz") for p in ("B_001", "B_002")}


def test_patterns_pair_names_that_say_nothing(tmp_path: Path) -> None:
    made(tmp_path, "scan_1.nii", "drawn_1.nii", "scan_12.nii", "drawn_12.nii", "log_1.nii")
    monitor = Monitor()
    found = pairs(tmp_path, monitor, images="scan_*", masks="drawn_*")
    assert found == {f"scan_{n}": (f"scan_{n}.nii", f"drawn_{n}.nii") for n in (1, 12)}
    assert "1 files" in monitor.warnings[0] and "neither pattern" in monitor.warnings[0]
    assert pairs(tmp_path, masks="drawn_*.nii")["log_1"] == ("log_1.nii", "")
    with pytest.raises(InputError, match=r"drawing-\*"):
        find_cases(tmp_path, masks="drawing-*")


def test_a_pattern_may_name_folders_and_plain_names(tmp_path: Path) -> None:
    made(tmp_path, "x/p1.nii", "y/p1.nii", "x/p2.nii", "y/p2.nii", "d/p1/flair.nii", "d/p1/truth.nii")
    assert pairs(tmp_path, images="x/*", masks="y/*") == {p: (f"x/{p}.nii", f"y/{p}.nii") for p in ("p1", "p2")}
    assert pairs(tmp_path, images="flair", masks="truth") == {"d_p1_flair": ("d/p1/flair.nii", "d/p1/truth.nii")}


def test_further_channels_of_nnunet_are_no_cases_and_several_masks_are(tmp_path: Path) -> None:
    monitor = Monitor()
    channels = [f"imagesTr/c1_000{n}.nii.gz" for n in range(3)]
    found = pairs(made(tmp_path, *channels, "labelsTr/c1.nii.gz"), monitor)
    assert found == {"c1_0000": ("imagesTr/c1_0000.nii.gz", "labelsTr/c1.nii.gz")}
    assert "2 files are further channels" in monitor.warnings[0]
    several = pairs(made(tmp_path / "b", "p1.nii", "p1_mask.nii", "p1_seg.nii"), monitor)
    assert several == {"p1_mask": ("p1.nii", "p1_mask.nii"), "p1_seg": ("p1.nii", "p1_seg.nii")}
    assert "several masks" in monitor.warnings[-1]


def test_bids_masks_say_in_whose_space_they_are(tmp_path: Path) -> None:
    anat = "sub-1/anat/sub-1_"
    made(tmp_path, f"{anat}T1w.nii.gz", f"{anat}FLAIR.nii.gz", "derivatives/d/sub-1/anat/sub-1_space-FLAIR_mask.nii.gz")
    assert pairs(tmp_path)["sub-1_FLAIR"][1].endswith("space-FLAIR_mask.nii.gz")


def test_dicom_series_find_the_mask_of_their_folder(tmp_path: Path) -> None:
    made(tmp_path, "p1/0.dcm", "p1/1.dcm", "p2/0.dcm", "p1_mask.nii.gz", "p2/seg.nii.gz")
    assert pairs(tmp_path) == {"p1": ("p1", "p1_mask.nii.gz"), "p2": ("p2", "p2/seg.nii.gz")}


def test_a_run_beside_the_images_is_the_result_of_the_image_of_its_name(tmp_path: Path) -> None:
    made(tmp_path, "images/p1.nii.gz", "images/p2.nii.gz", "out/p1/segmentation.seg.nrrd")
    found = pairs(tmp_path)
    assert found["p1"] == ("images/p1.nii.gz", "out/p1/segmentation.seg.nrrd") and found["p2"][1] == ""
