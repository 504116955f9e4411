"""Headers are judged before native code sees them: a damaged file costs a sentence, never the process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medseg import scratch
from medseg.errors import InputError
from medseg.io import itk, read_volume

PIXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
META = (
    "ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 6 5 4\nElementSpacing = 1 1 1\n"
    "ElementType = MET_SHORT\nElementDataFile = {}\n"
)
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 4\nencoding: raw\nendian: little\nspace: LPS\n{}\n\n"


def raw(folder: Path, name: str = "voxels.raw") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(PIXELS.tobytes())
    return file


def image(folder: Path, suffix: str, compress: bool = False) -> Path:
    path = folder / f"image{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(PIXELS), str(path), useCompression=compress)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_what_itk_writes_passes(tmp_path: Path, suffix: str, compress: bool) -> None:
    assert np.array_equal(read_volume(image(tmp_path, suffix, compress)).array, PIXELS)


@pytest.mark.parametrize("where", ["voxels.raw", "below/voxels.raw"])
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_data_beside_or_below_the_header_is_read(tmp_path: Path, kind: str, where: str) -> None:
    raw(tmp_path, where)
    header = META.format(where) if kind == "mhd" else NRRD.format(f"data file: {where}")
    (tmp_path / f"image.{kind}").write_text(header)
    assert np.array_equal(read_volume(tmp_path / f"image.{kind}").array, PIXELS)


@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
@pytest.mark.parametrize(
    "name", ["../outside.raw", "{absolute}", "below/../../outside.raw", "..\\outside.raw", "link.raw"]
)
def test_no_header_names_a_file_elsewhere(tmp_path: Path, kind: str, name: str) -> None:
    """Else a header that somebody sent reads any file of this computer as voxels."""
    outside = raw(tmp_path, "outside.raw")
    folder = tmp_path / "case"
    (folder / "below").mkdir(parents=True)
    (folder / "link.raw").symlink_to(outside)
    name = name.format(absolute=outside)
    fields = (f"data file: {name}", f"data file: LIST\n{name}") if kind == "nhdr" else (name, f"LIST\n{name}")
    for field in fields:
        (folder / f"image.{kind}").write_text((META if kind == "mhd" else NRRD).format(field))
        with pytest.raises(InputError, match=f"image.{kind} takes its image data from .*not in the folder"):
            read_volume(folder / f"image.{kind}")


def test_missing_data_and_patterns_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text(META.format("gone.raw"))
    with pytest.raises(InputError, match=r"gone\.raw, which is missing"):
        read_volume(tmp_path / "a.mhd")
    (tmp_path / "b.mhd").write_text(META.format("slice%03d.raw 1 4 1"))
    with pytest.raises(InputError, match="pattern"):
        read_volume(tmp_path / "b.mhd")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NDims = 3", "NDims =-3"),
        ("NDims = 3", "NDims = 30"),
        ("DimSize = 6 5 4", "DimSize = 6 5"),
        ("DimSize = 6 5 4", "DimSize = 6 5 -4"),
        ("DimSize = 6 5 4", "DimSize = 999999999 999999999 999999999"),
        ("MET_SHORT", "MET_OTHER"),
        ("NDims = 3\n", ""),
        ("NDims = 3\n", "NDims = 3\nNDims = 2\n"),
        ("ElementSpacing = 1 1 1", "ElementSpacing = 1 1 inf"),
    ],
)
def test_a_metaimage_header_that_cannot_be_is_refused(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "a.mha").write_bytes(META.format("LOCAL").replace(old, new).encode() + PIXELS.tobytes())
    with pytest.raises(InputError, match=r"a\.mha"):
        read_volume(tmp_path / "a.mha")


def test_a_crash_of_the_reader_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a batch all later cases would be lost."""
    child = itk._Child()
    monkeypatch.setattr(itk, "_child", child)
    good = image(tmp_path, ".nrrd")
    assert np.array_equal(read_volume(good).array, PIXELS)
    ask = child.ask

    def crash(request: dict[str, str], seconds: float) -> object:
        child._process.kill()
        child._process.wait()
        child._process.poll = lambda: None  # it ends between the question and the answer
        return ask(request, seconds)

    monkeypatch.setattr(child, "ask", crash)
    with pytest.raises(InputError, match=r"image\.nrrd made the image reader crash"):
        read_volume(good)
    monkeypatch.setattr(child, "ask", ask)
    assert np.array_equal(read_volume(good).array, PIXELS)
    child.end()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["metaimage_crash.mha", "transfer_syntax.dcm"])
def test_the_broken_files_get_a_sentence(shared: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        read_volume(shared / "broken" / name)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_changed_in_a_file_it_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder, shared = tmp_path_factory.mktemp("changed"), tmp_path_factory.mktemp("shared")
    path = image(folder, data.draw(st.sampled_from([".mha", ".nrrd"])), data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "SHARED_MEMORY", shared)
        try:
            assert read_volume(path).array.size
        except InputError as error:
            assert path.name in str(error)
    assert not list(shared.iterdir()), "the reading process left a file behind"
