"""What was converted becomes a package: checked, compared with the original, written as a whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MedSegError, ModelError
from ...model.onnx_check import check_safe, read_onnx
from ...model.onnx_fit import check_fits
from ...model.package import embed_manifest, load_model, pack, parse_manifest
from ...model.package_files import MANIFEST_NAME, new_folder, sha256_of
from ...monitor import Monitor
from . import onnx_tidy
from .converted import Converted, largest_difference, tell

RECORD_NAME = "import.json"
AGREED = 1e-4
REFUSED = 1e-2
#: Of a probe image at least this share of the voxels is expected to get the original's label.
EQUAL = 0.9995
# Of large outputs single precision leaves no more digits: these shares of the largest value are allowed then.
_AGREED_SHARE, _REFUSED_SHARE = 3e-5, 1e-4
Raw = dict[str, Any]


def write_package(target: Path, raw: Raw, converted: Converted, record: Raw, monitor: Monitor) -> Path:
    """Check each graph against its manifest, compare it with the original, and write the package ``target``.

    Inner networks are packages in folders of their own; what the chains have in common is compared with their
    manifests as converted, before ``changes`` (a set's own preparation, its joined classes) are made.
    """
    if converted.inner and target.suffix.lower() == ".onnx":
        raise InputError(
            f"{target.name}: this model consists of {len(converted.inner) + 1} networks, which one ONNX file cannot "
            "hold; choose a name ending in .zip, or a folder."
        )
    networks: list[tuple[str, Raw, Converted, Raw]] = [
        (i.folder, i.manifest, i.converted, {"kind": record.get("kind")}) for i in converted.inner
    ]
    networks.append((".", raw, converted, record))
    with tempfile.TemporaryDirectory(prefix="medseg-import-") as scratch:
        folder = Path(scratch) / "package"
        with new_folder(folder) as new:
            for place, manifest, one, own in networks:
                _write_network(new / place, manifest, one, own, monitor)
        load_model(folder)
        for place, manifest, one, own in networks:
            _compare_chain(folder / place, manifest, one, own, monitor)
        for place, manifest, one, own in networks:
            if one.changes:
                card = one.changes.get("card", {})
                figures = {**card.get("figures", {}), **own["figures"]}
                manifest |= one.changes | {"card": {**manifest["card"], **card, "figures": figures}}
                _write_descriptions(folder / place, manifest, own)
        load_model(folder)
        return _deliver(folder, raw, target)


def _write_network(place: Path, raw: Raw, converted: Converted, record: Raw, monitor: Monitor) -> None:
    place.mkdir(parents=True, exist_ok=True)
    manifest = parse_manifest(raw, MANIFEST_NAME)
    weights = place / "model.onnx"
    onnx_tidy.save(converted.model, weights)
    files = check_safe(read_onnx(weights), weights, place)
    tell(monitor, check_fits(converted.model, manifest, "model.onnx"))
    difference = compare(converted, weights, monitor)
    record |= {"parameters": converted.parameters, "largest_difference": difference, **converted.facts}
    raw["weights"] = {"file": weights.name, "sha256": sha256_of(weights, *(place / name for name in files))}
    figures = raw.setdefault("card", {}).setdefault("figures", {})
    figures["agreement with the original"] = _words(converted, difference)
    raw["card"]["made_from"] = _made_from(converted.facts)
    record["figures"] = {"agreement with the original": figures["agreement with the original"]}
    _write_descriptions(place, raw, record)


def _compare_chain(place: Path, raw: Raw, converted: Converted, record: Raw, monitor: Monitor) -> None:
    if converted.chain is None:
        return
    from .chain_check import equal_share

    monitor.progress(95, 100, f"comparing with {converted.chain.framework} on a probe image")
    record["equal_voxels"] = share = equal_share(place, converted.chain, monitor)
    words = f"{share:.3%} of the voxels of a probe image get the same label ({converted.chain.framework}, on import)"
    if share < EQUAL:
        monitor.warn(
            f"Only {share:.3%} of the voxels of a probe image get the label that {converted.chain.framework} gives "
            f"(at least {EQUAL:.2%} are expected); compare both on an image of your own before you rely on it."
        )
    name = "agreement with the original, whole chain"
    raw["card"]["figures"][name] = record["figures"][name] = words
    _write_descriptions(place, raw, record)


def _made_from(facts: Raw) -> dict[str, str]:
    """What a card and every result tell of ``facts``, in plain words."""
    told = {}
    for name, value in facts.items():
        if isinstance(value, list | tuple):
            told[name] = ", ".join(str(v) for v in value)
        elif isinstance(value, str | int) and value != "":
            told[name] = str(value)
    return told


def _write_descriptions(folder: Path, raw: Raw, record: Raw) -> None:
    told = {k: v for k, v in record.items() if k != "figures"}
    for name, content in ((MANIFEST_NAME, raw), (RECORD_NAME, told)):
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _deliver(folder: Path, raw: Raw, target: Path) -> Path:
    try:
        if target.suffix.lower() == ".zip":
            return pack(folder, target, overwrite=True)
        if target.suffix.lower() == ".onnx":
            return embed_manifest(folder / "model.onnx", raw, target)
        with new_folder(target) as new:
            shutil.copytree(folder, new, dirs_exist_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def compare(converted: Converted, weights: Path, monitor: Monitor) -> float | None:
    """Largest difference between the ONNX file and the original framework on the probe; None without a probe.

    Raises `ModelError` where they differ so much that the conversion must be wrong.
    """
    probe = converted.probe
    if probe is None:
        return None
    names = [v.name for v in onnx_tidy.real_inputs(converted.model)]
    try:
        found = onnx_tidy.open_network(str(weights)).run(None, dict(zip(names, probe.feeds, strict=True)))[0]
    except MedSegError:
        raise
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        raise ModelError(f"The converted network does not run in ONNX Runtime: {str(error).splitlines()[0]}") from error
    if found.shape != probe.output.shape:
        raise ModelError(
            f"The converted network gives the shape {found.shape}, the original {probe.output.shape}; "
            "the conversion failed."
        )
    difference = largest_difference(found, probe.output)
    largest = float(np.abs(probe.output).max(initial=0.0))
    if not np.isfinite(difference) or difference > max(REFUSED, _REFUSED_SHARE * largest):
        raise ModelError(
            f"The converted network differs from the original by up to {difference:.3g} on a probe input; it is not "
            "kept. Please report this model."
        )
    if difference > max(AGREED, _AGREED_SHARE * largest):
        monitor.warn(f"The converted network differs from the original by up to {difference:.2g} on a probe input.")
    return difference


def _words(converted: Converted, difference: float | None) -> str:
    if converted.facts.get("framework") == "ONNX":
        return "nothing was converted: the ONNX file is the original, but for names and batch"
    if converted.probe is None or difference is None:
        return "not compared: the original framework was not at hand on import"
    largest = float(np.abs(converted.probe.output).max(initial=0.0))
    of = f" of values up to {largest:.1e}" if largest > AGREED / _AGREED_SHARE else ""
    return f"largest difference {difference:.1e}{of} on a probe input ({converted.probe.framework}, on import)"
