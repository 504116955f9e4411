"""A folder of series: what each is, which a model takes by rule and why, and when it is left to the user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid
from typer.testing import CliRunner

from medseg.cli import app
from medseg.io.series_facts import SeriesFacts, contrast_words, series_facts
from medseg.model.card import CardChannel, ModelCard
from medseg.pipeline.series_choice import pick
from support.dicom_images import write_enhanced, write_series

FLAIR = CardChannel("FLAIR", ("MR",), "Axial 2D FLAIR")
WMH = ModelCard("wmh", Path(), title="WMH", body_part="head", channels=(FLAIR,),
                expects={"mode": "slicewise", "plane": "axial"})  # fmt: skip
T1 = CardChannel("T1", ("MR",), "T1-weighted")
BRAIN = ModelCard("brain", Path(), title="Brain", channels=(T1,),
                  expects={"mode": "whole", "spacing": [1.0, 1.0, 1.0]})  # fmt: skip
BLEED = ModelCard("bleed", Path(), title="Bleed", body_part="head",
                  channels=(CardChannel("head CT", ("CT",), "Non-contrast head CT"),),
                  expects={"mode": "slicewise", "plane": "acquisition"})  # fmt: skip
PIXELS = np.random.default_rng(5).integers(0, 500, (6, 12, 10)).astype(np.uint16)


def add(
    folder: Path, number: int, description: str, *, kind: str = "MR", plane: str = "axial", gap: float = 5.0,
    count: int = 6, study: str = "1.2.3", **tags: Any,
) -> str:  # fmt: skip
    """A series of ``count`` slices; its UID."""
    orientation, normal = {
        "axial": ([1, 0, 0, 0, 1, 0], (0, 0, 1)),
        "coronal": ([1, 0, 0, 0, 0, -1], (0, 1, 0)),
        "sagittal": ([0, 1, 0, 0, 0, -1], (-1, 0, 0)),
    }[plane]
    uid = generate_uid()
    pixels = PIXELS[:count] if kind == "MR" else PIXELS[:count].astype(np.int16)
    write_series(folder / f"{study}-{number}", pixels, [tuple(gap * k * n for n in normal) for k in range(count)], kind,
                 orientation, SeriesInstanceUID=uid, StudyInstanceUID=study, SeriesNumber=number,
                 SeriesDescription=description, **tags)  # fmt: skip
    return uid


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """An MR study and what scanners put beside it."""
    add(tmp_path, 1, "3-plane localizer", count=3)
    add(tmp_path, 2, "ax T2 FLAIR")
    add(tmp_path, 3, "sag FLAIR 3D", plane="sagittal", gap=1.0)
    add(tmp_path, 4, "T1 MPRAGE", plane="sagittal", gap=1.0)
    add(tmp_path, 5, "ax T1 SE", gap=6.0)
    add(tmp_path, 6, "", gap=4.0, RepetitionTime=9000, EchoTime=120, InversionTime=2500)
    add(tmp_path, 7, "ax FLAIR MPR", ImageType=["DERIVED", "SECONDARY"])
    return tmp_path


def taken(card: ModelCard, folder: Path) -> tuple[int | None, str]:
    found = pick(card, card.channels[0], series_facts(folder))
    return (None if found.series is None else found.series.info.number), found.why


def test_what_each_series_is(study: Path) -> None:
    """The list would not tell a FLAIR from a localizer."""
    facts = {f.info.number: f for f in series_facts(study)}
    assert facts[1].localizer and not facts[2].localizer
    assert [facts[n].contrast for n in (2, 3, 4, 5, 6)] == ["FLAIR", "FLAIR", "T1", "T1", "FLAIR"]
    assert [facts[n].plane for n in (2, 3, 4)] == ["axial", "sagittal", "sagittal"]
    assert facts[4].thickness == pytest.approx(1.0) and facts[7].derived


def test_plane_contrast_and_originals_decide_and_equal_ones_are_left_to_the_user(study: Path, tmp_path: Path) -> None:
    """A model would run on a sagittal or reformatted series, or on one that was chosen by chance."""
    number, why = taken(WMH, study)
    assert number is None and "2 series fit" in why and '"ax T2 FLAIR"' in why
    for path in sorted((study / "1.2.3-6").iterdir()):
        path.unlink()
    number, why = taken(WMH, study)
    assert number == 2 and "FLAIR, axial" in why and "sagittal" in why and "made from other images" in why


def test_thin_slices_for_networks_of_volumes(study: Path) -> None:
    """Thick slices would blur what a 3D network looks for."""
    number, why = taken(BRAIN, study)
    assert number == 4 and "slices every 1 mm" in why and '"ax T1 SE"' in why


def test_kernel_contrast_agent_body_part_and_faults(tmp_path: Path) -> None:
    """A haemorrhage model would get the bone kernel or the angiography."""
    add(tmp_path, 1, "Head 5mm", kind="CT", ConvolutionKernel="H31s", BodyPartExamined="HEAD")
    add(tmp_path, 2, "Head bone", kind="CT", ConvolutionKernel="H60s", BodyPartExamined="HEAD")
    add(tmp_path, 3, "CTA", kind="CT", ConvolutionKernel="H31s", ContrastBolusAgent="X", BodyPartExamined="HEAD")
    add(tmp_path, 4, "Thorax", kind="CT", BodyPartExamined="CHEST")
    write_series(tmp_path / "uneven", PIXELS.astype(np.int16), [(0, 0, z) for z in (0, 5, 10, 18, 26, 34)],
                 SeriesNumber=5, StudyInstanceUID="1.2.3", SeriesDescription="two parts")  # fmt: skip
    number, why = taken(BLEED, tmp_path)
    assert number == 1 and "sharp kernel" in why and "gaps of 5 to 8 mm" in why and "Thorax" not in why
    facts = {f.info.number: f for f in series_facts(tmp_path)}
    alone = pick(BLEED, BLEED.channels[0], [facts[4]])
    assert alone.series is None and "of the chest, the model is for the head" in alone.why
    only = pick(BLEED, BLEED.channels[0], [facts[3]])
    assert only.series is facts[3]
    assert pick(WMH, FLAIR, list(facts.values())).series is None


def test_frames_are_listed_and_never_chosen(tmp_path: Path) -> None:
    """One time point of a dynamic series would be taken for the study."""
    write_enhanced(tmp_path / "d.dcm", PIXELS, [(0, 0, z) for z in (0, 0, 3, 3, 6, 6)], times=[1, 2] * 3,
                   SeriesDescription="T1 dynamic")  # fmt: skip
    (facts,) = series_facts(tmp_path)
    assert facts.frames == ("time point 1", "time point 2")
    found = pick(BRAIN, T1, [facts])
    assert found.series is None and "2 frames" in found.why


@pytest.mark.parametrize(
    ("text", "words"),
    [("t2_tse_dark-fluid_tra", ("FLAIR",)), ("SWI_Images", ("T2*",)), ("ep2d_diff_ADC", ("diffusion",)),
     ("SWI or T2*", ("T2*",)), ("routine", ())],
)  # fmt: skip
def test_words_of_scanners(text: str, words: tuple[str, ...]) -> None:
    """Series of one vendor would never be recognised."""
    assert contrast_words([text]) == words


def medseg(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))


def test_the_list_says_what_each_model_would_take(study: Path, own_places: None) -> None:
    """A user would have to open each series to find the right one."""
    document = json.loads(medseg("series", study, "--json").stdout)
    assert [s["plane"] for s in document["series"]][:3] == ["axial", "axial", "sagittal"]
    of = {m["model"]: m for m in document["models"]}
    assert of["ich-compact"]["series"] is None and "the model wants CT" in of["ich-compact"]["why"]
    assert "fit" in of["wmh-compact"]["why"]
    text = medseg("series", study).stdout
    assert "wmh-compact" in text and "localizer" in text and "Example" not in text


def test_a_folder_of_studies_is_run_study_by_study_with_the_reason(tmp_path: Path, own_places: None) -> None:
    """Each study would have to be unpacked, and its series picked, by hand."""
    folder = tmp_path / "in"
    add(folder, 1, "ax FLAIR", study="1.2.3", count=3)
    add(folder, 2, "ax T1", study="1.2.3", count=3)
    add(folder, 1, "ax T1 only", study="1.2.5")
    done = medseg("run", "wmh-compact", folder, "-o", tmp_path / "out", "--no-scene", "--device", "cpu", "--json")
    document = json.loads(done.stdout)
    assert document["exit_code"] == 2 and [("error" in r) for r in document["results"]] == [False, True]
    assert "No series fits" in document["results"][1]["error"]["message"]
    notes = document["results"][0]["result"]["notes"]
    assert any('"ax FLAIR" was chosen' in note for note in notes)
    assert (tmp_path / "out/study-01/segmentation.seg.nrrd").is_file() and not (tmp_path / "out/study-02").exists()


def test_facts_of_a_series_that_cannot_be_stacked_say_why(tmp_path: Path) -> None:
    """A broken series would hide the good ones beside it."""
    add(tmp_path, 1, "ax FLAIR")
    write_series(tmp_path / "no", PIXELS, [(0, 0, 0)] * 6, "MR", SeriesNumber=2, SeriesDescription="ax FLAIR",
                 StudyInstanceUID="1.2.3", InstanceNumber=None)  # fmt: skip
    facts = series_facts(tmp_path)
    assert isinstance(facts[1], SeriesFacts) and "at 1 positions" in facts[1].unusable
    assert taken(WMH, tmp_path)[0] == 1
