"""nnU-Net v2 result folders and exported zips: checkpoints (or an exported ONNX file) and descriptions -> a package.

Several networks become one package: the folds of a result one graph, the stage before a cascade a package inside.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...errors import ModelError
from ...monitor import Monitor
from . import nnunet_manifest as parts
from . import onnx_tidy
from .bundles import Raw, bundle_network, manifest_of, plain_id
from .converted import Chain, Converted, ImportOptions, Inner, Probe
from .environment import environment, run_script
from .nnunet_folder import Network, opened, read_network, result_folder
from .pickle_names import check_weights_only

REQUIREMENTS = "nnunet-requirements.txt"
MODULES = "torch, onnx, dynamic_network_architectures"


def convert_nnunet(path: Path, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and network of an nnU-Net v2 result folder or exported zip.

    Options: ``configuration`` (where there are several), ``folds`` (``0,1`` or ``all``; default: all), ``checkpoint``
    (a file name; default: final, else best), ``onnx`` (an exported file in place of the checkpoints).
    """
    with opened(path) as root:
        called = path.stem if path.is_file() and zipfile.is_zipfile(path) else root.name
        network = read_network(result_folder(root, options.choices), options.choices)
        if not network.checkpoints:
            return _from_onnx(network, called, options)
        networks = [*([network.previous] if network.previous else []), network]
        made = convert_networks(networks, called, options, monitor)
        raw, converted = made[-1]
        if network.previous is not None:
            converted.inner.append(Inner(f"stages/{network.previous.name}", *made[0]))
        return raw, converted


def convert_networks(
    networks: Sequence[Network], called: str, options: ImportOptions, monitor: Monitor
) -> list[tuple[Raw, Converted]]:
    """Manifest and converted graph of each of ``networks``, in one environment; a stage stands before what needs it."""
    for network in networks:
        if not network.checkpoints:
            raise ModelError(f"{network.folder.name} has no checkpoint of any fold; get the whole result.")
        for file in network.checkpoints:
            check_weights_only(file)
    with (
        environment(
            REQUIREMENTS, MODULES, python=options.environment, wheels=options.wheels, monitor=monitor
        ) as interpreter,
        tempfile.TemporaryDirectory(prefix="medseg-convert-") as scratch,
    ):
        requests = [_request(n, networks, Path(scratch) / str(at)) for at, n in enumerate(networks)]
        answer = run_script(
            interpreter, "nnunet_convert.py", {"networks": requests}, Path(scratch), monitor,
            "The checkpoints could not be converted",
        )  # fmt: skip
        return [
            _packaged(n, request, answer, found, called)
            for n, request, found in zip(networks, requests, answer["networks"], strict=True)
        ]


def _request(network: Network, networks: Sequence[Network], place: Path) -> dict[str, Any]:
    place.mkdir()
    labels = parts.foreground(network.dataset)
    classes, output = parts.labels(network.dataset)
    earlier = [n.folder for n in networks]
    return {
        "checkpoints": [str(c.resolve()) for c in network.checkpoints], "plan": network.plan, "plans": network.plans,
        "dataset": network.dataset, "configuration": network.name,
        "patch": [int(n) for n in network.plan["patch_size"]],
        "images": len(parts.channel_names(network.dataset)), "labels": labels,
        "outputs": len(classes) + (output["activation"] == "softmax"),
        "previous": earlier.index(network.previous.folder) if network.previous is not None else None,
        "output": str(place / "model.onnx"), "probe": str(place / "probe.npz"), "chain": str(place / "chain.npz"),
    }  # fmt: skip


def _packaged(network: Network, request: dict[str, Any], answer: Raw, found: Raw, called: str) -> tuple[Raw, Converted]:
    model = onnx.load(request["output"])
    with np.load(request["probe"], allow_pickle=False) as stored:
        probe = Probe(str(answer["framework"]), [stored["feed"]], stored["output"])
    chain = _chain(Path(request["chain"]), network.plans, str(answer["nnunet"]))
    facts = {
        "framework": f"nnU-Net v2, {answer['framework']}", "configuration": network.name, "folds": network.folds,
        "checkpoint": list(dict.fromkeys(c.name for c in network.checkpoints)), "trainer": found["trainer"],
    }  # fmt: skip
    notes = [f"The whole chain was not compared with nnU-Net: {answer['not_compared']}."] if chain is None else []
    converted = Converted(model, int(found["parameters"]), probe, notes, facts, chain)
    return _manifest(network, called, converted, list(found["mirror_axes"])), converted


def _from_onnx(network: Network, called: str, options: ImportOptions) -> tuple[Raw, Converted]:
    if network.previous is not None:
        raise ModelError(
            f"{network.name} is the second stage of a cascade; it is imported from its checkpoints "
            "(fold_0/checkpoint_final.pth), and there are none."
        )
    model = bundle_network(network.folder, options, "Without fold_0/checkpoint_final.pth, nnU-Net results")
    onnx_tidy.open_batch(model)
    converted = Converted(model, facts={"framework": "nnU-Net v2", "configuration": network.name})
    converted.notes.append(
        "Along which axes the network was trained on mirrored images stands in its checkpoint, which was not "
        "given; mirroring can not be chosen."
    )
    return _manifest(network, called, converted, []), converted


def _manifest(network: Network, called: str, converted: Converted, mirror_axes: list[int]) -> Raw:
    plan, plans, dataset, name = network.plan, network.plans, network.dataset, network.name
    channels = parts.channel_names(dataset)
    classes, output = parts.labels(dataset)
    steps = parts.preprocessing(plan, plans, channels)
    more: Raw = {}
    if network.previous is not None:
        before = network.previous.name
        steps.append(parts.append_labels(plan, dataset, before))
        more["requires"] = [{"name": before, "model": f"./stages/{before}", "channels": "all"}]
    title = str(dataset.get("name") or plans.get("dataset_name") or called)
    raw = manifest_of(
        plain_id(f"{title}-{name}"), f"{title} (nnU-Net, {name})", "segmentation", converted.model,
        len(plan["patch_size"]),
        source=str(dataset.get("reference") or "nnU-Net v2 result folder"),
        card={
            "description": str(dataset.get("description") or f"nnU-Net v2, configuration {name}."),
            "intended_use": "Research only.",
            "training_data": f"{dataset.get('numTraining', 'an unknown number of')} cases of {title}.",
            "limitations": [
                *converted.notes,
                *(["Averaging over mirrored images, which nnU-Net does by default, is off until it is asked for."]
                  if mirror_axes else []),
                "Images are taken in the axis order in which they are stored, as nnU-Net does.",
            ],
        },
        **more,
        channels=[{"name": c, "modality": ["CT"] if c.upper() == "CT" else []} for c in channels],
        preprocessing=steps, inference=parts.inference(plan, mirror_axes),
        output={**output, "logits": True, "restore": "logits"}, classes=classes,
    )  # fmt: skip
    licence = dataset.get("licence") or dataset.get("license")
    if licence:
        raw["license"] = str(licence)
    return raw


def _chain(path: Path, plans: Raw, version: str) -> Chain | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        spacing = [float(s) for s in reversed(stored["spacing"].tolist())]
        orientation = "RAS" if "Reorient" in str(plans.get("image_reader_writer", "")) else "LPS"
        return Chain(
            f"nnU-Net {version}", stored["image"], (spacing[0], spacing[1], spacing[2]), orientation, stored["labels"]
        )
