"""Sets of nnU-Net v2 results whose classes join into one segmentation (TotalSegmentator): folders -> a package.

The recipe's manifest names the parts and which of their labels become which class; `NnunetFacts` say which folder or
zip each part is, and how the set's own program brings the image to its resolution before nnU-Net sees it.
"""

from __future__ import annotations

import fnmatch
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError, ModelError
from ...model.manifest.other_models import OWN
from ...monitor import Monitor
from . import nnunet_manifest as parts
from .bundles import Raw
from .converted import Converted, ImportOptions, Inner
from .nnunet import convert_networks
from .nnunet_folder import Network, opened, read_network, result_folders
from .recipe import NnunetFacts, Recipe


def convert_set(path: Path, recipe: Recipe, options: ImportOptions, monitor: Monitor) -> tuple[Raw, Converted]:
    """Manifest and networks of the set ``recipe``, from the folder (or zip) ``path`` that holds all of its parts.

    A part is a result folder, a folder around one, or a zip of one. Raises `InputError` where a part is not there,
    `ModelError` where one has another number of classes than the recipe says.
    """
    facts, template = recipe.nnunet, recipe.template()
    values = {j["model"]: {int(k): int(v) for k, v in j["values"].items()} for j in template.get("joined", [])}
    values = values or {OWN: {c["value"]: c["value"] for c in template["classes"]}}
    with _parts(path, facts, options) as networks:
        for name, network in networks.items():
            count, wanted = len(parts.labels(network.dataset)[0]), max(values[name])
            if count != wanted:
                raise ModelError(
                    f"{network.folder.name} has {count} classes, but {recipe.title} takes {wanted} from it; it is "
                    "another version of the model."
                )
        made = convert_networks(list(networks.values()), recipe.id, options, monitor)
    found = dict(zip(networks, made, strict=True))
    raw, converted = found[OWN]
    for name, (inner, one) in found.items():
        _as_the_set_does(inner, one, networks[name], facts)
        if name != OWN:
            converted.inner.append(Inner(name.removeprefix("./"), inner, one))
    kept = ("id", "version", "title", "body_part", "license", "source", "card", "channels", "classes", "joined",
            "postprocessing", "display_windows")  # fmt: skip
    converted.changes |= {k: template[k] for k in kept if k in template}
    converted.changes["id"] = options.id or recipe.id
    converted.facts["parts"] = {name: network.folder.name for name, network in networks.items()}
    return raw, converted


def holds(path: Path, recipe: Recipe) -> bool:
    """Whether the folder or zip ``path`` holds a result or zip for each part of ``recipe``; nothing is unpacked."""
    if not recipe.nnunet.parts or not path.is_dir():
        return False
    folders, zips = result_folders(path), sorted(path.glob("*.zip"))
    return all(
        any(_called(f, path, pattern) for f in folders) or any(fnmatch.fnmatch(z.name, pattern) for z in zips)
        for pattern in recipe.nnunet.parts.values()
    )


def _as_the_set_does(raw: Raw, converted: Converted, network: Network, facts: NnunetFacts) -> None:
    """What the set's program does around nnU-Net, to be put into the manifest after nnU-Net alone was compared."""
    own = [s for s in raw["preprocessing"] if s["step"] != "orient"]
    spacing = [float(s) for s in network.plan["spacing"]]
    if facts.spacing is not None and all(abs(s - facts.spacing) < 1e-3 for s in spacing):
        # The image has this resolution already; nnU-Net then resamples nothing.
        own = [s for s in own if s["step"] != "resample_extent"]
    before: list[Raw] = [{"step": "orient", "code": "RAS"}]
    if facts.spacing is not None:
        before.append({"step": "resample", "spacing": [facts.spacing] * 3, "align_corners": True})
        before.append({"step": "quantise", "levels": 1, "towards_zero": True})
    converted.changes |= {"preprocessing": [*before, *own], "output": {**raw["output"], "restore": "labels"}}
    if facts.overlap is not None:
        converted.changes["inference"] = {**raw["inference"], "overlap": facts.overlap}


@contextmanager
def _parts(path: Path, facts: NnunetFacts, options: ImportOptions) -> Iterator[dict[str, Network]]:
    """The network of each part by its name in the manifest, in the recipe's order."""
    with ExitStack() as stack:
        root = stack.enter_context(opened(path))
        networks = {}
        for name, pattern in facts.parts.items():
            folders = [f for f in result_folders(root) if _called(f, root, pattern)]
            zips = [z for z in sorted(root.glob("*.zip")) if fnmatch.fnmatch(z.name, pattern) and zipfile.is_zipfile(z)]
            if not folders and len(zips) == 1:
                folders = result_folders(stack.enter_context(opened(zips[0])))
            if len(folders) != 1:
                raise InputError(
                    f"{path.name} holds {'no' if not folders else 'more than one'} result called {pattern}; put all "
                    f"{len(facts.parts)} parts ({', '.join(facts.parts.values())}) into one folder, as folders or zips."
                )
            choices = {k: v for k, v in options.choices.items() if k in ("folds", "checkpoint")}
            networks[name] = read_network(folders[0], choices)
            if networks[name].previous is not None:
                raise ModelError(f"{folders[0].name} is a cascade; sets of cascades are not known.")
        yield networks


def _called(folder: Path, root: Path, pattern: str) -> bool:
    names: list[Any] = [root.name, *folder.relative_to(root).parts] if folder != root else [root.name]
    return any(fnmatch.fnmatch(str(n), pattern) for n in names)
