"""Packages: every form loads the same, a fault is named with file and field, nothing unsafe is used."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from medseg.errors import InputError, ModelError
from medseg.model import package as package_module
from medseg.model.manifest import json_schema
from medseg.model.package import embed_manifest, load_model, pack
from support.packages import external, network, package


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
