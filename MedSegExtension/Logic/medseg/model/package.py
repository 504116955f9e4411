"""A model package: folder, zip, single ONNX file, manifest file or installed id -> a checked `Model`.

A package is a folder with ``manifest.json`` and the ONNX file it names; the same as a ``.zip``; or one ``.onnx`` file
whose metadata holds the manifest (key ``medseg_manifest``). Nothing in a package is code and nothing of it is run:
see `medseg.model.package_files` and `medseg.model.onnx_check` for what is refused.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
from pydantic import ValidationError

from ..errors import InputError, ModelError
from . import onnx_check, package_files
from .manifest import Manifest
from .manifest.other_models import inside
from .onnx_check import METADATA_KEY
from .onnx_fit import check_fits
from .package_files import MANIFEST_LIMIT, MANIFEST_NAME, user_path
from .store import find_model

MANIFEST_VERSION = 1


@dataclass(frozen=True)
class Model:
    """A checked model. ``onnx_path`` is a real file; ``origin`` is where it came from, as the user named it.

    ``sha256``: of the ONNX file, or of it followed by its external data files in the order of their names.
    ``folder``: the package folder (or its private copy); None where manifest and weights were named one by one.
    ``data_files``: external data files, relative to the folder of ``onnx_path``.
    ``parts``: the models inside this package (stages that run first, networks that are joined), by the manifest's name.
    """

    manifest: Manifest
    onnx_path: Path
    sha256: str
    origin: str
    warnings: tuple[str, ...] = ()
    folder: Path | None = None
    data_files: tuple[str, ...] = ()
    parts: Mapping[str, Model] = field(default_factory=dict)


def load_model(source: str | Path, *, weights: Path | None = None) -> Model:
    """Find, check and describe a model; ONNX Runtime has not seen the file when this returns.

    ``source``: a package folder, its zip, a single ``.onnx`` with embedded manifest, a manifest ``.json`` (its weights
    file beside it, or ``weights``), or the id of an installed model. Raises `ModelError` with the field or file that is
    wrong and what to do.
    """
    text, path = str(source), user_path(source)
    try:
        path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise ModelError(f"{text[:80]!r} cannot be opened: {error.strerror or error}.") from error
    if weights is not None:
        if not path.is_file():
            raise ModelError(f"{text}: with separate weights the model must be a manifest file, and this is none.")
        return _from_manifest(path, user_path(weights), text)
    if path.is_dir() and (path / MANIFEST_NAME).is_file():
        return _from_folder(path, text)
    if path.is_file():
        return _from_file(path, text)
    if path.is_dir():
        if os.sep in text or text.startswith(".") or (os.altsep and os.altsep in text):
            raise ModelError(f"{text}: there is no {MANIFEST_NAME} in this folder; choose a model package.")
    elif os.sep in text or (os.altsep and os.altsep in text) or path.suffix.lower() in (".zip", ".onnx", ".json"):
        raise ModelError(
            f"{text}: no such file or folder; was the model moved or removed? Put it back, or choose another one."
        )
    return _from_folder(find_model(text), text)


def embed_manifest(onnx_path: Path, manifest: Manifest | dict[str, Any] | Path, out: Path) -> Path:
    """Write ``out``: the ONNX file with ``manifest`` in its metadata, a complete model in one file. Returns ``out``.

    A file cannot hold its own hash, so ``weights.sha256`` is null in it. Raises `ModelError` for unfit models and for
    weights in extra files.
    """
    onnx_path, out = Path(onnx_path), Path(out)
    if isinstance(manifest, Path):
        raw = read_json(manifest.read_bytes(), manifest.name)
    else:
        raw = manifest_dict(manifest) if isinstance(manifest, Manifest) else dict(manifest)
    raw["weights"] = {"file": out.name, "sha256": None}
    parsed = parse_manifest(raw, MANIFEST_NAME)
    proto = onnx_check.read_onnx(onnx_path)
    onnx_check.check_safe(proto, onnx_path, None)
    check_fits(proto, parsed, onnx_path.name)
    kept = [(e.key, e.value) for e in proto.metadata_props if e.key != METADATA_KEY]
    del proto.metadata_props[:]
    for key, value in [*kept, (METADATA_KEY, json.dumps(raw, ensure_ascii=False))]:
        proto.metadata_props.add(key=key, value=value)
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(proto.SerializeToString())
        Path(temporary).replace(out)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return out


def pack(folder: str | Path, out_zip: Path, *, overwrite: bool = False) -> Path:
    """Check the package ``folder`` and write it as a zip, with its hash in the manifest. Returns ``out_zip``."""
    out_zip = Path(out_zip)
    if out_zip.exists() and not overwrite:
        raise InputError(f"{out_zip} is already there; choose another name or overwrite it.")
    model = load_model(folder)
    package_files.write_zip(out_zip, package_members(model).items())
    return out_zip


def package_members(model: Model) -> dict[str, Path | bytes]:
    """What a package of ``model`` consists of: name -> file or content; the manifest has its hash."""
    root = model.folder or model.onnx_path.parent
    weights = model.onnx_path.relative_to(root).as_posix()
    raw = manifest_dict(model.manifest)
    raw["weights"] = {"file": weights, "sha256": model.sha256}
    members: dict[str, Path | bytes] = {}
    if model.folder is not None:
        members = {str(name): root / name for name in package_files.package_files(root)}
    members[weights] = model.onnx_path
    for name in model.data_files:
        file = model.onnx_path.parent / name
        members[file.relative_to(root).as_posix()] = file
    members[MANIFEST_NAME] = (json.dumps(raw, indent=1, ensure_ascii=False) + "\n").encode()
    return members


# -- sources ------------------------------------------------------------------------------------------------


def _from_file(path: Path, origin: str) -> Model:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _from_manifest(path, None, origin)
    if suffix == ".onnx":
        return _from_onnx(path, origin)
    if suffix == ".zip" or zipfile.is_zipfile(path):
        folder, left_out = package_files.unpack(path)
        warning = f"{path.name} also holds {', '.join(left_out)}; MedSeg uses no code from packages and left it out."
        return _from_folder(folder, origin, (warning,) if left_out else ())
    raise ModelError(f"{path.name} is no model: choose a package folder, its .zip, an .onnx or a manifest .json file.")


def _from_folder(folder: Path, origin: str, warnings: tuple[str, ...] = ()) -> Model:
    package_files.package_files(folder)
    path = package_files.inside(folder, MANIFEST_NAME, folder.name)
    manifest = read_manifest(path)
    weights = _weights_beside(folder, manifest, path.name)
    return _with_parts(_checked(manifest, weights, folder, origin, warnings, folder), folder)


def _with_parts(model: Model, folder: Path | None) -> Model:
    """``model`` with the models inside its package, each checked as any other."""
    manifest = model.manifest
    names = [n for n in (*(r.model for r in manifest.requires), *(j.model for j in manifest.joined)) if inside(n)]
    if not names:
        return model
    if folder is None:
        raise ModelError(f"{manifest.title} consists of several networks ({names[0]}, ...); load its package folder.")
    parts, warnings = {}, list(model.warnings)
    for name in dict.fromkeys(names):
        place = folder / str(package_files.safe_name(name.removeprefix("./"), "manifest.json"))
        if not place.resolve().is_relative_to(folder.resolve()) or not (place / MANIFEST_NAME).is_file():
            raise ModelError(f"manifest.json: {name}: there is no package in that folder; get the whole package again.")
        try:
            parts[name] = _from_folder(place, f"{model.origin} {name}")
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from error
        warnings += parts[name].warnings
    return replace(model, parts=parts, warnings=tuple(warnings))


def _from_manifest(path: Path, weights: Path | None, origin: str) -> Model:
    manifest = read_manifest(path)
    if weights is None:
        weights = _weights_beside(path.parent, manifest, path.name)
    elif not weights.is_file():
        raise ModelError(f"{weights}: no such weights file.")
    return _with_parts(_checked(manifest, weights, weights.parent, origin, (), None), None)


def _from_onnx(path: Path, origin: str) -> Model:
    """A private copy is checked and used, so that what runs is what was checked."""
    folder = package_files.private_copy(path, "model.onnx")
    copy = folder / "model.onnx"
    try:
        proto = onnx_check.read_onnx(copy)
        text = onnx_check.embedded_manifest(proto)
        if text is None:
            raise ModelError(
                f"{path.name} holds no manifest (metadata {METADATA_KEY}); put it in a folder with a {MANIFEST_NAME}, "
                f"or embed one with embed_manifest."
            )
        raw = read_json(text.encode(), f"{path.name}: {METADATA_KEY}")
        label = f"{path.name}: {METADATA_KEY}"
        given: Any = raw.get("weights")
        warnings: tuple[str, ...] = ()
        if isinstance(given, dict) and given.get("sha256") is not None:
            warnings = (f"{label}: weights.sha256 was not compared; a file cannot hold its own hash.",)
        raw["weights"] = {"file": copy.name, "sha256": None}
        manifest = parse_manifest(raw, label)
        onnx_check.check_safe(proto, copy, None)
        warnings += tuple(check_fits(proto, manifest, path.name))
    except ModelError as error:
        raise ModelError(str(error).replace("model.onnx", path.name)) from error
    return _with_parts(Model(manifest, copy, package_files.sha256_of(copy), origin, warnings, None), None)


def _weights_beside(folder: Path, manifest: Manifest, label: str) -> Path:
    name = manifest.weights.file
    if not name.lower().endswith(".onnx"):
        raise ModelError(f"{label}: weights.file: {name!r} is not an .onnx file; export or import the model first.")
    return package_files.inside(folder, name, f"{label}: weights.file")


def _checked(
    manifest: Manifest, weights: Path, root: Path, origin: str, warnings: tuple[str, ...], folder: Path | None
) -> Model:
    """Hash, safety and fit of the ONNX file, in this order of messages."""
    wanted, found = manifest.weights.sha256, package_files.sha256_of(weights)
    mismatch = ModelError(
        f"manifest.json: weights.sha256: {weights.name} does not have the hash that the manifest states (it has "
        f"{found[:12]}..., stated is {(wanted or '')[:12]}...): it was changed, belongs to another version, or its "
        "download is not complete. Get the package again."
    )
    try:
        proto: onnx.ModelProto = onnx_check.read_onnx(weights)
    except ModelError:
        if wanted is not None and found != wanted:
            raise mismatch from None
        raise
    files = onnx_check.check_safe(proto, weights, root)
    if files:
        found = package_files.sha256_of(weights, *(weights.parent / name for name in files))
    if wanted is None:
        warnings += (
            f"The manifest of {manifest.title} states no weights.sha256, so a changed or damaged weights file would "
            "not be noticed.",
        )
    elif found != wanted:
        raise mismatch
    warnings += tuple(check_fits(proto, manifest, weights.name))
    return Model(manifest, weights, found, origin, warnings, folder, tuple(files))


# -- manifest -----------------------------------------------------------------------------------------------


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file ``path``; `ModelError` names file and field."""
    try:
        if path.stat().st_size > MANIFEST_LIMIT:
            raise ModelError(f"{path.name}: larger than 1 MB; this is not a manifest.")
        return parse_manifest(read_json(path.read_bytes(), path.name), path.name)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read: {error.strerror or error}.") from error


def read_json(data: bytes, label: str) -> dict[str, Any]:
    """A JSON object; `ModelError` for other JSON, doubled names, NaN, wrong encoding and more than 1 MB."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        double = {n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else set()
        if double:
            raise ModelError(f"{label}: {min(double)!r} stands there twice in one object; remove one.")
        return dict(pairs)

    def no_constant(name: str) -> Any:
        raise ModelError(f"{label}: {name} is not a JSON number; write a finite number.")

    if len(data) > MANIFEST_LIMIT:
        raise ModelError(f"{label}: larger than 1 MB; this is not a manifest.")
    try:
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ModelError(f"{label}: not valid JSON: {error.msg} in {where}.") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ModelError(f"{label}: not valid JSON ({type(error).__name__}); save it as UTF-8 text.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{label}: a manifest is a JSON object in braces, this is a {type(value).__name__}.")
    return value


def parse_manifest(raw: dict[str, Any], label: str) -> Manifest:
    """Validate ``raw``; `ModelError` lists each wrong field as ``label: preprocessing[2].spacing: ...``."""
    version = raw.get("medseg_manifest")
    if isinstance(version, int) and not isinstance(version, bool) and version > MANIFEST_VERSION:
        raise ModelError(
            f"{label}: medseg_manifest: written for manifest version {version}, but this MedSeg reads version "
            f"{MANIFEST_VERSION}; update MedSeg."
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(raw, e) for e in error.errors(include_url=False)]
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise ModelError(f"{label}: " + "; ".join(problems[:5]) + more) from error


def manifest_dict(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain JSON values, without defaults."""
    return manifest.model_dump(mode="json", exclude_unset=True)


@functools.lru_cache(maxsize=1)
def _field_names() -> frozenset[str]:
    """All field names of the schema, for hints."""
    schema = Manifest.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    return frozenset(name for part in parts for name in part.get("properties", {}))


def _problem(raw: dict[str, Any], error: Any) -> str:
    """One of pydantic's errors in words."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    field = _location(raw, error["loc"])
    if kind == "missing":
        return f"{field}: is missing"
    if kind == "extra_forbidden":
        name = str(error["loc"][-1])
        near = difflib.get_close_matches(name, _field_names(), 1)
        return f"{field}: is not a known field" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = context["discriminator"].strip("'")
        if kind == "union_tag_not_found":
            return f"{field}.{tag}: is missing"
        known = [k.strip(" '") for k in context["expected_tags"].split(",")]
        near = difflib.get_close_matches(str(context["tag"]), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(known)
        return f"{field}.{tag}: {context['tag']!r} is not known; {hint}"
    if kind == "literal_error":
        return f"{field}: {given!r} is not one of {context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"{field}: {str(given)[:60]!r} does not have the form {context['pattern']}"
    if kind == "value_error":
        text = str(context["error"])
        return f"{field}: {text}" if field else text
    text = error["msg"][:1].lower() + error["msg"][1:]
    return f"{field}: {text}" + ("" if isinstance(given, (dict, list)) else f", not {str(given)[:60]!r}")


def _location(raw: Any, location: tuple[int | str, ...]) -> str:
    """``preprocessing[2].spacing`` for pydantic's location, which also names the chosen union members."""
    words = ""
    here: Any = raw
    for n, part in enumerate(location):
        if isinstance(part, int):
            words += f"[{part}]"
            here = here[part] if isinstance(here, (list, tuple)) and part < len(here) else None
            continue
        # A tag of a union ("resample") is no key of the data; it is the value of "step" or "mode" there.
        if isinstance(here, dict) and part not in here and part in (here.get("step"), here.get("mode")):
            continue
        if not isinstance(here, dict) and n:
            continue
        words += f".{part}" if words else part
        here = here.get(part) if isinstance(here, dict) else None
    return words
