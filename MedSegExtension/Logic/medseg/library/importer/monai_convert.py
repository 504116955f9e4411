"""Converts a MONAI network to ONNX and runs MONAI's own chain beside it. Runs alone, in an environment with MONAI.

``python -I monai_convert.py request.json answer.json``

Weights (``.pt``) are opened by PyTorch's unpickler for weights only; the network's class must be one of those that the
request names, from ``monai.networks.nets``, with literal arguments. A TorchScript file (``.ts``) is a program: it runs
in TorchScript's own interpreter, which has no file or network functions; the user is told so. Transforms are MONAI's,
by name, with literal arguments; no expression of a bundle is evaluated.
"""
# mypy: ignore-errors

import json
import re
import sys
import zipfile
from pathlib import Path

LIMIT = 2 << 30
WHERE = ("state_dict", "model", "network", "net", "model_state_dict")


class Refused(Exception):
    """A sentence for the user."""


def say(text):
    print("progress: " + text, flush=True)


def read_yaml(request):
    import yaml

    return {name: yaml.safe_load(Path(path).read_text(encoding="utf-8")) for name, path in request["yaml"].items()}


def read_weights(torch, path):
    """A dictionary of what a checkpoint holds; only tensors, numbers, texts and plain containers are made."""
    import _codecs

    import numpy as np

    core = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    kinds = [getattr(np.dtypes, n) for n in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")]
    allowed = [(core.scalar, f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")]
    try:
        with torch.serialization.safe_globals([*allowed, np.dtype, *kinds, (_codecs.encode, "_codecs.encode")]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise Refused(
                f"{Path(path).name} holds more than weights (it asks for {named.group(1)}); it was not opened"
            ) from error
        raise Refused(f"{Path(path).name} cannot be read as weights ({first(error)})") from error


def read_settings(torch, path):
    """The settings of an Auto3DSeg checkpoint as plain values."""
    content = read_weights(torch, path)
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict) or "state_dict" not in content:
        raise Refused(f"{Path(path).name} has no settings inside; it is no Auto3DSeg model")
    names = (
        "network", "roi_size", "normalize_mode", "intensity_bounds", "extra_modalities", "orientation_ras",
        "crop_foreground", "resample_resolution", "sigmoid",
    )  # fmt: skip
    return {name: plain(config[name]) for name in names if name in config}


def plain(value):
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def state_dict(torch, content, name):
    if isinstance(content, dict) and content and all(isinstance(v, torch.Tensor) for v in content.values()):
        found = content
    else:
        found = next(
            (content[k] for k in WHERE if isinstance(content, dict) and isinstance(content.get(k), dict)), None
        )
    if not found:
        raise Refused(f"{name} holds no weights of a network")
    return {k.removeprefix("module.").removeprefix("_orig_mod."): v for k, v in found.items()}


def build(definition, allowed, weights, name):
    from monai.networks import nets

    kind = definition["name"]
    if kind not in allowed or not hasattr(nets, kind):
        raise Refused(f"the network {kind} is not one of those that MedSeg builds")
    arguments = definition["arguments"]
    if "pretrained" in arguments:
        # Weights that somebody trained on photographs; the file's own take their place, so nothing is fetched.
        arguments = {**arguments, "pretrained": False}
    try:
        network = getattr(nets, kind)(**arguments)
    except Exception as error:
        raise Refused(f"the network {kind} could not be built ({first(error)})") from error
    try:
        network.load_state_dict(weights)
    except Exception as error:
        raise Refused(f"the weights of {name} do not fit the network {kind} ({first(error)})") from error
    return network.eval()


def load_network(torch, request):
    file = Path(request["file"])
    if request["program"]:
        try:
            return torch.jit.load(str(file), map_location="cpu").eval()
        except Exception as error:
            raise Refused(f"PyTorch cannot read {file.name} ({first(error)})") from error
    content = read_weights(torch, file)
    return build(request["network"], request["allowed"], state_dict(torch, content, file.name), file.name)


def single(torch, network, at):
    """The network with one of a list of outputs; of one that is itself a list (deep supervision) the first, finest."""

    class Single(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            found = self.network(x)[at]
            return found[0] if isinstance(found, (list, tuple)) else found

    return Single().eval()


def export(torch, network, request, answer):
    import numpy as np

    shape = [1, request["channels"], *request["patch"]]
    generator = torch.Generator().manual_seed(0)
    feed = torch.randn(shape, generator=generator)
    say("running the original network")
    try:
        output = network(feed)
    except Exception as error:
        raise Refused(
            f"the network does not take an input of {' x '.join(map(str, shape))} ({first(error)})"
        ) from error
    if isinstance(output, (list, tuple)):
        maps, take = [part for part in output if part is not None], request.get("take")
        if take is None and (len(maps) != 1 or output[0] is None):
            raise Refused(
                f"the network gives {len(output)} outputs, and which of them are the classes is not written; where you "
                "know it, say it with the option output=N (0: the first)"
            )
        # SegResNetVAE gives its map and, when it is not trained, None.
        take = take or 0
        if take >= len(output) or output[take] is None or len(output[take]) == 0:
            raise Refused(f"the network gives {len(output)} outputs, and none with the number {take} (0: the first)")
        network = single(torch, network, take)
        output = network(feed)
    elif request.get("take"):
        raise Refused(f"the network gives one output, and none with the number {request['take']} (0: the first)")
    if isinstance(output, dict) or output.ndim != feed.ndim:
        raise Refused("the network does not give one map for each class")
    size = sum(p.numel() * p.element_size() for p in network.parameters())
    if size >= LIMIT:
        raise Refused(f"the network has {size / 2**30:.1f} GB of weights, and one ONNX file holds less than 2 GB")
    answer["parameters"] = sum(int(p.numel()) for p in network.parameters())
    answer["outputs"] = int(output.shape[1])
    axes = {0: "N"} if request["fixed"] else {0: "N", **{2 + n: f"s{n}" for n in range(len(request["patch"]))}}
    say("converting to ONNX")
    try:
        torch.onnx.export(
            network, (feed,), request["output"], dynamo=False, opset_version=17, input_names=["image"],
            output_names=["pred"], dynamic_axes={"image": axes, "pred": axes},
        )  # fmt: skip
    except Exception as error:
        raise Refused(f"PyTorch cannot write it as ONNX ({first(error)})") from error
    np.savez(request["probe"], feed=feed.numpy(), output=output.numpy())
    return network


def probe_image(request):
    """A smooth random image (C, x, y, z) in air, its spacing (mm), of about a window and a third."""
    import numpy as np
    from scipy import ndimage

    random = np.random.default_rng(1)
    size, spacing, low, high = (request["image"][k] for k in ("size", "spacing", "low", "high"))
    image = np.zeros((request["images"], *size), np.float32)
    inner = tuple(slice(2, n - 1) for n in size)
    for channel in image:
        noise = ndimage.gaussian_filter(random.standard_normal(size), 2.5)
        noise = noise / noise.std() + 0.2 * random.standard_normal(size)
        values = (low + high) / 2 + noise * (high - low) / 5
        # What lies at 0 or below is air for most crops, so that the box is not the whole image.
        channel[inner] = values[inner]
    return image, spacing


def squash(torch, kind):
    """The functions that SlicerMONAIAuto3DSeg puts behind a normalisation."""
    return {
        "sigmoid": torch.sigmoid,
        "tanh": lambda x: 3 * torch.tanh(x / 3),
        "pet": lambda x: torch.sigmoid((x - x.min()) / x.std()),
    }[kind]


def transform(monai, torch, item):
    """One of MONAI's transforms; its arguments are literals, but for dtypes and thresholds."""
    name = item["_target_"].split(".")[-1]
    arguments = {k: v for k, v in item.items() if k not in ("_target_", "_disabled_", "_desc_", "_mode_", "_requires_")}
    if name == "Squash":
        return monai.transforms.Lambdad(keys=item["keys"], func=squash(torch, item["function"]))
    for key, value in list(arguments.items()):
        if isinstance(value, dict) and set(value) == {"above"}:
            limit = value["above"]
            arguments[key] = lambda x, limit=limit: x > limit
        elif key == "dtype" and isinstance(value, str):
            arguments[key] = getattr(torch, value)
    return getattr(monai.transforms, name)(**arguments)


def own_chain(torch, network, request, folder):
    """MONAI's own transforms, windows and way back on a probe image; labels of each layer, (L, x, y, z)."""
    import monai
    import nibabel
    import numpy as np
    from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer

    say("running MONAI's own chain on a probe image")
    image, spacing = probe_image(request)
    affine = np.diag([-spacing[0], -spacing[1], *spacing[2:], *[1.0] * (4 - len(spacing))])
    paths = []
    for n, channel in enumerate(image):
        paths.append(str(folder / f"probe{n}.nii.gz"))
        nibabel.save(nibabel.Nifti1Image(channel, affine), paths[-1])
    keys = request["keys"]
    given = {keys[0]: paths if len(paths) > 1 else paths[0]} if len(keys) == 1 else dict(zip(keys, paths, strict=True))
    before = monai.transforms.Compose([transform(monai, torch, t) for t in request["before"]])
    data = before(given)
    plan = dict(request["inferer"])
    kind = plan.pop("kind")
    if kind == "SimpleInferer":
        run = SimpleInferer()
    else:
        run = (SliceInferer if kind == "SliceInferer" else SlidingWindowInferer)(sw_batch_size=1, **plan)
    key = request["image_key"]
    x = data[key]
    found = run(x[None].as_tensor() if hasattr(x, "as_tensor") else x[None], network)
    if isinstance(found, (list, tuple)):
        found = found[0]
    data["pred"] = monai.data.MetaTensor(found[0], meta=x.meta, applied_operations=x.applied_operations)
    after = []
    for item in request["after"]:
        if item["_target_"] == "Invertd":
            after.append(
                monai.transforms.Invertd(
                    keys="pred", transform=before, orig_keys=key, nearest_interp=item["nearest_interp"], to_tensor=True
                )
            )
        else:
            after.append(transform(monai, torch, item))
    result = monai.transforms.Compose(after)(data)["pred"]
    result = np.asarray(result.as_tensor() if hasattr(result, "as_tensor") else result)
    np.savez(request["chain"], image=image, spacing=spacing, result=result.astype(np.uint16))


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "yaml" in request:
        Path(sys.argv[2]).write_text(json.dumps(read_yaml(request)), encoding="utf-8")
        return
    say("loading PyTorch")
    import torch

    torch.set_grad_enabled(False)
    if "settings" in request:
        Path(sys.argv[2]).write_text(json.dumps(read_settings(torch, request["settings"])), encoding="utf-8")
        return
    if not zipfile.is_zipfile(request["file"]):
        raise Refused(f"{Path(request['file']).name} is no file of PyTorch 1.6 or newer, or is cut off; get it again")
    import monai

    answer = {"framework": f"PyTorch {torch.__version__}", "monai": monai.__version__, "not_compared": ""}
    network = load_network(torch, request)
    network = export(torch, network, request, answer)
    if request.get("before") is not None:
        try:
            own_chain(torch, network, request, Path(sys.argv[1]).resolve().parent)
        except Exception as error:
            answer["not_compared"] = f"MONAI's own chain did not run ({first(error)})"
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


def first(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


if __name__ == "__main__":
    try:
        main()
    except Refused as error:
        print(f"refused: {error}", flush=True)
        sys.exit(1)
