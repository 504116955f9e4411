"""Packages: every form loads the same, a fault is named with file and field, nothing unsafe is used."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from medseg.errors import InputError, ModelError
from medseg.model import package as package_module
from medseg.model import package_files
from medseg.model.manifest import json_schema
from medseg.model.package import embed_manifest, load_model, pack
from support.packages import manifest, network, package


@pytest.fixture(autouse=True)
def private_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("MEDSEG_MODELS", raising=False)


def zip_of(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path, top: str = "") -> dict[str, bytes]:
    return {top + p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- forms --------------------------------------------------------------------------------------------------


def test_every_form_of_a_package_gives_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "tiny")
    sha = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path))
    development = tmp_path / "dev" / "any.json"
    development.parent.mkdir()
    development.write_text((folder / "manifest.json").read_text())
    sources: list[tuple[Any, dict[str, Any]]] = [
        (folder, {}),
        (zip_of(tmp_path / "flat.zip", contents(folder)), {}),
        (zip_of(tmp_path / "nested.zip", contents(folder, "tiny-1.0/")), {}),
        (folder / "manifest.json", {}),
        (development, {"weights": folder / "model.onnx"}),
        ("tiny", {}),
    ]
    for source, options in sources:
        model = load_model(source, **options)
        assert model.manifest.id == "tiny" and model.sha256 == sha and model.warnings == (), source
        assert model.onnx_path.is_file() and model.origin == str(source)
        assert hashlib.sha256(model.onnx_path.read_bytes()).hexdigest() == sha


def test_single_file_with_embedded_manifest(tmp_path: Path) -> None:
    folder = package(tmp_path / "tiny")
    single = embed_manifest(folder / "model.onnx", folder / "manifest.json", tmp_path / "out" / "single.onnx")
    model = load_model(single)
    assert model.manifest.id == "tiny" and model.warnings == ()
    assert model.onnx_path != single, "the checked private copy is what runs"
    again = embed_manifest(single, model.manifest, tmp_path / "again.onnx")
    props = onnx.load(str(again)).metadata_props
    assert [p.key for p in props] == ["medseg_manifest"], "an older manifest is replaced, not doubled"


def test_pack_states_the_hash_and_leaves_code_out(tmp_path: Path) -> None:
    folder = package(tmp_path / "tiny", hashed=False)
    (folder / "LICENSE").write_text("Apache-2.0")
    (folder / "convert.py").write_text("raise SystemExit")
    assert "sha256" in load_model(folder).warnings[0]
    packed = pack(folder, tmp_path / "tiny.zip")
    assert sorted(zipfile.ZipFile(packed).namelist()) == ["LICENSE", "manifest.json", "model.onnx"]
    assert load_model(packed).warnings == ()
    first = packed.read_bytes()
    assert pack(folder, packed, overwrite=True).read_bytes() == first, "the same package gives the same bytes"
    with pytest.raises(InputError, match="already there"):
        pack(folder, packed)


def test_external_data_is_part_of_the_model_and_of_its_hash(tmp_path: Path) -> None:
    folder = external(tmp_path / "tiny")
    model = load_model(folder)
    assert model.data_files == ("weights.bin",)
    both = (folder / "model.onnx").read_bytes() + (folder / "weights.bin").read_bytes()
    assert model.sha256 == hashlib.sha256(both).hexdigest()
    packed = pack(folder, tmp_path / "tiny.zip")
    assert load_model(packed).data_files == ("weights.bin",)
    data = bytearray((folder / "weights.bin").read_bytes())
    data[0] ^= 1
    entries = contents(load_model(packed).folder or tmp_path) | {"weights.bin": bytes(data)}
    with pytest.raises(ModelError, match="sha256"):
        load_model(zip_of(tmp_path / "changed.zip", entries))


def external(folder: Path, **entries: str) -> Path:
    """A package whose weights are in ``weights.bin``; ``entries`` overwrite what the tensor says of them."""
    model = network(classes=3)
    package(folder, hashed=False, classes=[{"value": 2, "name": "a"}])
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, str(folder / "model.onnx"))
    if entries:
        model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
        tensor = model.graph.initializer[0]
        where = {e.key: e.value for e in tensor.external_data} | entries
        del tensor.external_data[:]
        for key, value in where.items():
            tensor.external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


# -- faults in words ----------------------------------------------------------------------------------------


def broken(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: package(folder, **changes)


def with_text(text: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        package(folder)
        (folder / "manifest.json").write_bytes(text)
        return folder

    return make


def without_weights(folder: Path) -> Path:
    (package(folder) / "model.onnx").unlink()
    return folder


def cut_short(folder: Path) -> Path:
    return package(folder, network().SerializeToString()[:-40], hashed=False)


FAULTS: list[tuple[str, Callable[[Path], Path], str]] = [
    ("typing error in a field", broken(preprocessing=[{"step": "resample", "spaing": [1, 1, 1]}]),
     r"manifest\.json: .*preprocessing\[0\]\.spaing: is not a known field; did you mean 'spacing'"),
    ("wrong value deep inside", broken(preprocessing=[{"step": "orient", "code": "RAS"},
     {"step": "resample", "spacing": [1, "x", 1]}]), r"preprocessing\[1\]\.spacing\[1\]: .*'x'"),
    ("unknown step", broken(preprocessing=[{"step": "resampel"}]), r"preprocessing\[0\]\.step: .*'resample'"),
    ("unknown mode", broken(inference={"mode": "slices"}), r"inference\.mode: 'slices'.*"),
    ("missing field of the mode", broken(inference={"mode": "slicewise"}), r"inference\.plane: is missing"),
    ("two classes of one name", broken(classes=[{"value": 1, "name": "a"}, {"value": 2, "name": "a"}]), "same name"),
    ("newer manifest", broken(medseg_manifest=2), "medseg_manifest: .*version 2.*update MedSeg"),
    ("not JSON", with_text(b'{"id": }'), r"manifest\.json: not valid JSON: .* line 1, column 8"),
    ("not text", with_text(b"\xff\xfe\x00"), "UTF-8"),
    ("not an object", with_text(b"[1]"), "object in braces, this is a list"),
    ("a name twice", with_text(b'{"id": 1, "id": 2}'), "'id' stands there twice"),
    ("nested without end", with_text(b'{"a":' * 100_000), "not valid JSON"),
    ("too large", with_text(b" " * (1 << 20) + b"{}"), "larger than 1 MB"),
    ("hash mismatch", broken(weights={"file": "model.onnx", "sha256": "0" * 64}), "sha256: .*Get the package"),
    ("missing weights", without_weights, r"weights\.file: the file model\.onnx is missing"),
    ("weights outside", broken(weights={"file": "../model.onnx"}), "not a plain relative path"),
    ("weights of another kind", broken(weights={"file": "model.pt"}), r"not an \.onnx file"),
    ("truncated network", cut_short, "not a whole ONNX model"),
    ("empty network file", broken(model=b"", hashed=False), "is empty"),
    ("Git LFS pointer", broken(model=b"version https://git-lfs.github.com/spec/v1\n", hashed=False), "git lfs pull"),
    ("web page", broken(model=b"<!DOCTYPE html><html></html>", hashed=False), "web page"),
    ("random bytes", broken(model=bytes(range(256)) * 40, hashed=False), "not a whole ONNX model"),
    ("wrong input name", broken(inputs=[{"name": "X", "layout": "NCDHW"}]), r"inputs\[0\]\.name: .*no input 'X'.*'x'"),
    ("wrong output name", broken(output={"tensor": "prob", "layout": "NCDHW", "activation": "softmax"}),
     r"output\.tensor: .*no output 'prob'; its outputs are 'y'"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_fault_is_named_with_file_and_field(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(make(tmp_path / "tiny"))


def test_missing_sources_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load_model(tmp_path / "none.zip")
    with pytest.raises(ModelError, match=r"no manifest\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match="no installed model 'wmh-compct'"):
        load_model("wmh-compct")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match="is no model"):
        load_model(tmp_path / "notes.txt")
    (tmp_path / "plain.onnx").write_bytes(network().SerializeToString())
    with pytest.raises(ModelError, match=r"plain\.onnx holds no manifest"):
        load_model(tmp_path / "plain.onnx")


# -- packages from strangers --------------------------------------------------------------------------------

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


def test_a_single_file_cannot_reach_for_other_files(tmp_path: Path) -> None:
    folder = external(tmp_path / "tiny")
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    model.metadata_props.add(key="medseg_manifest", value=json.dumps(manifest(classes=[{"value": 2, "name": "a"}])))
    single = folder / "single.onnx"
    single.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"single\.onnx keeps weights in an extra file"):
        load_model(single)


def test_loading_a_model_never_opens_it_in_onnx_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is worth nothing if the runtime reads the file first."""
    import onnxruntime

    opened: list[Any] = []
    real = onnxruntime.InferenceSession

    def spy(source: Any, *args: Any, **kwargs: Any) -> Any:
        opened.append(source)
        return real(source, *args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    from medseg.model import onnx_check

    onnx_check._runtime_refusal.cache_clear()
    model = load_model(package(tmp_path / "tiny"))
    content = model.onnx_path.read_bytes()
    assert opened and all(isinstance(s, bytes) and s != content for s in opened), "only the version probe"


# -- schema -------------------------------------------------------------------------------------------------


def test_the_committed_json_schema_is_current() -> None:
    """Else editors would accept manifests that MedSeg refuses; ``-m medseg.model.manifest.json_schema`` renews it."""
    assert json_schema.PATH.read_text(encoding="utf-8") == json_schema.schema_text()


def test_reading_a_card_needs_neither_pydantic_nor_onnx(repository: Path) -> None:
    """Slicer's own process reads cards; it has none of these."""
    code = (
        "import sys; import medseg.model.store as s; s.installed_models(); import medseg.model.card;"
        "bad = {'pydantic', 'onnx', 'onnxruntime', 'SimpleITK', 'scipy'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository / "MedSegExtension" / "Logic", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_manifest_values_survive_packing(tmp_path: Path) -> None:
    steps = [{"step": "window", "windows": [{"level": 40, "width": 80}], "override": True}]
    folder = package(tmp_path / "tiny", preprocessing=steps, classes=[{"value": 1, "name": "Läsion", "lesion": True}])
    before = load_model(folder).manifest
    after = load_model(pack(folder, tmp_path / "t.zip")).manifest
    assert after == before and after.classes[0].name == "Läsion"
    assert package_module.manifest_dict(after)["preprocessing"][0]["windows"][0] == {"level": 40.0, "width": 80.0}


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    ["meshnet-gwm-light", "meshnet-gwm", "meshnet-subcortical-18", "meshnet-brain-mask", "hippodeep-head",
     "deepbrain-extractor", "lungct-unet-small", "cxr-mobilenet-quantised"],
)  # fmt: skip
def test_real_models_pass_the_check_and_run(shared: Path, repository: Path, name: str) -> None:
    """Colons in tensor names, channels last, uint8 and open sizes all occur in the wild."""
    from medseg.engine.session import Session
    from medseg.monitor import Monitor

    model = load_model(
        repository / "Testing" / "real_models" / f"{name}.json", weights=shared / "models" / name / "model.onnx"
    )
    assert model.warnings == ()
    if name == "deepbrain-extractor":
        return  # its one size is 128^3, run by the suite of real models
    with Session.open(model, "cpu", monitor=Monitor()) as session:
        shapes = {k: [d or (1 if n == 0 else 32) for n, d in enumerate(s)] for k, s in session.input_shapes.items()}
        feeds = {t.name: np.zeros(shapes[t.name], t.dtype) for t in model.manifest.inputs}
        assert model.manifest.output.tensor in session.run(feeds)
