"""What a package must not do: leave its folder, bring code, grow without bound, reach for other files."""

from __future__ import annotations

import json
import stat
import struct
import sys
import zipfile
from pathlib import Path

import onnx
import pytest
from test_package import contents, private_folders, zip_of  # noqa: F401

from medseg.errors import ModelError
from medseg.model import package_files
from medseg.model.package import load_model
from support.packages import external, manifest, package

ELF = b"\x7fELF" + bytes(60)


PE = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0"


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/etc/evil", "a/../../evil", "C:/evil", "C:\\evil", "..\\evil", "\\\\host\\share\\x", "a//b", "./a",
     "con", "sub/nul.txt", "x/aux.json", "trailing. ", "stream.onnx:hidden", "star*"],
)  # fmt: skip
def test_zip_entries_never_leave_their_folder(tmp_path: Path, name: str) -> None:
    entries = contents(package(tmp_path / "tiny")) | {name: b"x"}
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ModelError, match="plain relative path"):
        load_model(zip_of(tmp_path / "evil.zip", entries))
    after = {p for p in tmp_path.rglob("*") if "cache" not in p.parts} - before - {tmp_path / "evil.zip"}
    assert not after and not list((tmp_path / "cache").rglob("manifest.json")), "nothing was unpacked"


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "link.zip", contents(package(tmp_path / "tiny")))
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("data.bin")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ModelError, match="link"):
        load_model(path)


def test_bombs_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = contents(package(tmp_path / "tiny"))
    with pytest.raises(ModelError, match="-fold"):
        load_model(zip_of(tmp_path / "ratio.zip", entries | {"zeros.bin": bytes(20 << 20)}))
    with pytest.raises(ModelError, match="at most 1000"):
        load_model(zip_of(tmp_path / "many.zip", entries | {f"f{n}": b"" for n in range(1001)}))
    monkeypatch.setattr(package_files, "TOTAL_LIMIT", 100)
    with pytest.raises(ModelError, match="unpacks to more than"):
        load_model(zip_of(tmp_path / "large.zip", entries))
    assert not list((tmp_path / "cache").rglob("manifest.json"))


def test_an_entry_that_lies_about_its_size_or_content_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "lie.zip", contents(package(tmp_path / "tiny")))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("model.onnx")
    start = info.header_offset + 30 + len("model.onnx")
    data[start + 20] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)
    path.write_bytes(bytes(data[: len(data) // 2]))
    with pytest.raises(ModelError, match="damaged"):
        load_model(path)
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()], "no half package stays"


@pytest.mark.parametrize(
    ("name", "content"),
    [("libop.so", b""), ("libop.so.1.2", b""), ("op.dll", b""), ("op.pyd", b""), ("data.bin", ELF), ("readme.txt", PE)],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_native_libraries_are_refused(tmp_path: Path, name: str, content: bytes, zipped: bool) -> None:
    folder = package(tmp_path / "tiny")
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match="native library"):
        load_model(zip_of(tmp_path / "native.zip", contents(folder)) if zipped else folder)


def test_code_in_a_package_is_left_out_and_told(tmp_path: Path) -> None:
    folder = package(tmp_path / "tiny")
    for name in ("setup.py", "model.pkl", "__init__.pyc", "run.sh"):
        (folder / name).write_bytes(b"raise SystemExit")
    model = load_model(zip_of(tmp_path / "code.zip", contents(folder)))
    assert model.folder is not None
    assert sorted(p.name for p in model.folder.iterdir()) == ["manifest.json", "model.onnx"]
    assert "setup.py" in model.warnings[0] and "model.pkl" in model.warnings[0]


def test_a_changed_cache_is_not_used(tmp_path: Path) -> None:
    """Without this a damaged copy in the cache would be run for ever."""
    path = zip_of(tmp_path / "tiny.zip", contents(package(tmp_path / "tiny", hashed=False)))
    first = load_model(path)
    good = first.onnx_path.read_bytes()
    first.onnx_path.write_bytes(good[:-1] + b"x")
    assert load_model(path).onnx_path.read_bytes() == good
    assert load_model(path).onnx_path == first.onnx_path


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_weights_that_are_a_link_out_of_the_package_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path / "tiny")
    (folder / "model.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ModelError, match="leads out of the package"):
        load_model(folder)


@pytest.mark.parametrize(
    "location",
    ["../outside.bin", "/etc/passwd", "C:\\x.bin", "*/_ORT_MEM_ADDR_/*", "sub/../../outside.bin", "", "missing.bin"],
)
def test_external_data_outside_the_package_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(64))
    folder = external(tmp_path / "tiny", location=location)
    if "*" in location and sys.platform != "win32":
        (folder / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
        (folder / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(64))
    with pytest.raises(ModelError):
        load_model(folder)


@pytest.mark.parametrize(
    "entries", [{"offset": "-4"}, {"offset": "1000000"}, {"length": "1000"}, {"length": "4"}, {"offset": "a"}]
)
def test_external_data_beyond_its_file_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    with pytest.raises(ModelError, match="extra file"):
        load_model(external(tmp_path / "tiny", **entries))


def test_a_place_of_weights_that_is_no_text_is_damage(tmp_path: Path) -> None:
    """The file name in the model was overwritten: a sentence, and no fault of MedSeg."""
    folder = external(tmp_path / "tiny")
    file = folder / "model.onnx"
    data = file.read_bytes()
    assert data.count(b"weights.bin") == 1
    file.write_bytes(data.replace(b"weights.bin", b"weigh\xff\xfe.bin"))
    with pytest.raises(ModelError, match=r"model\.onnx.* damaged"):
        load_model(folder)


def test_a_name_that_no_file_can_have_is_a_sentence() -> None:
    """Given on the command line or in the panel, it was a fault of MedSeg."""
    with pytest.raises(ModelError, match="AAAA"):
        load_model("A" * 5000)


def test_a_single_file_cannot_reach_for_other_files(tmp_path: Path) -> None:
    folder = external(tmp_path / "tiny")
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    model.metadata_props.add(key="medseg_manifest", value=json.dumps(manifest(classes=[{"value": 2, "name": "a"}])))
    single = folder / "single.onnx"
    single.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"single\.onnx keeps weights in an extra file"):
        load_model(single)
