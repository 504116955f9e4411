"""Converts nnU-Net v2 checkpoints to one ONNX file. Runs alone, in an environment with PyTorch and nnU-Net.

``python -I nnunet_convert.py request.json answer.json``

A checkpoint is a pickle: it is opened by PyTorch's unpickler for weights only, which makes tensors, plain containers
and the few types that `allowed` names, and calls nothing else. The network's class must be one of ``NETWORKS``, each of
its arguments a literal or one of `parts`: names in a plan are looked up in these tables and nowhere else.

Several folds become one network that gives the mean of their logits.
"""
# mypy: ignore-errors

import json
import re
import sys
from pathlib import Path

NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")
LIMIT = 2 << 30


class Refused(Exception):
    """A sentence for the user."""


STEPS = [0, 1]  # done, of how many


def say(text):
    print(f"progress: {STEPS[0]}/{STEPS[1]} {text}", flush=True)
    STEPS[0] = min(STEPS[0] + 1, STEPS[1])


def parts(torch):
    """What a plan may name as an argument: building blocks of PyTorch without any effect of their own."""
    names = [f"{kind}{n}d" for n in (2, 3) for kind in ("Conv", "InstanceNorm", "BatchNorm", "Dropout")]
    return {name: getattr(torch.nn, name) for name in (*names, "LeakyReLU", "ReLU", "GELU", "ELU", "SiLU", "PReLU")}


def allowed():
    """Types beside tensors that nnU-Net's own records of a training hold: NumPy's numbers."""
    import _codecs

    import numpy as np

    core = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    kinds = [getattr(np.dtypes, n) for n in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")]
    both = [(core.scalar, f"numpy.{place}.multiarray.scalar") for place in ("core", "_core")]
    return [*both, np.dtype, *kinds, (_codecs.encode, "_codecs.encode")]


def read_checkpoint(torch, path):
    try:
        with torch.serialization.safe_globals(allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        where = f"{Path(path).parent.name}/{Path(path).name}"
        # PyTorch's own text advises to load it anyway, with the code that is in it; only the name is taken.
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named:
            raise Refused(
                f"{where} holds more than weights (it asks for {named.group(1)}); it was not opened"
            ) from error
        raise Refused(f"{where} cannot be read as weights; it is damaged, or no checkpoint of nnU-Net v2") from error


def architecture(plan):
    """(class name, arguments, names of those that are parts) of a plan of either generation."""
    block = plan.get("architecture")
    if block:
        return (
            block["network_class_name"].split(".")[-1],
            dict(block["arch_kwargs"]),
            list(block["_kw_requires_import"]),
        )
    name = plan.get("UNet_class_name")
    if not name:
        raise Refused("plans.json does not say which network it is (no architecture, no UNet_class_name)")
    dims, stages = len(plan["patch_size"]), len(plan["n_conv_per_stage_encoder"])
    widest = plan["unet_max_num_features"]
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(plan["UNet_base_num_features"] * 2**n, widest) for n in range(stages)],
        "conv_op": f"Conv{dims}d", "kernel_sizes": plan["conv_kernel_sizes"], "strides": plan["pool_op_kernel_sizes"],
        "n_blocks_per_stage" if "Residual" in name else "n_conv_per_stage": plan["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": plan["n_conv_per_stage_decoder"], "conv_bias": True,
        "norm_op": f"InstanceNorm{dims}d", "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None,
        "dropout_op_kwargs": None, "nonlin": "LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    return name, arguments, ["conv_op", "norm_op", "dropout_op", "nonlin"]


def build(torch, plan, channels, outputs):
    from dynamic_network_architectures.architectures import unet

    name, arguments, imported = architecture(plan)
    if name not in NETWORKS or not hasattr(unet, name):
        raise Refused(f"the network {name!r} is not one that can be built; known are {', '.join(NETWORKS)}")
    known = parts(torch)
    for key in imported:
        value = arguments.get(key)
        if value is not None and str(value).split(".")[-1] not in known:
            raise Refused(f"plans.json: {key}: {value!r} is not a known part of a network")
        arguments[key] = None if value is None else known[str(value).split(".")[-1]]
    arguments.pop("deep_supervision", None)
    try:
        network = getattr(unet, name)(input_channels=channels, num_classes=outputs, deep_supervision=False, **arguments)
    except Exception as error:
        raise Refused(f"the network of plans.json could not be built ({first(error)})") from error
    return network.eval()


def with_weights(network, checkpoint, where):
    weights = {}
    for key, value in checkpoint["network_weights"].items():
        weights[key.removeprefix("module.").removeprefix("_orig_mod.")] = value
    try:
        network.load_state_dict(weights)
    except Exception as error:
        raise Refused(f"the weights of {where} do not fit the network of plans.json ({first(error)})") from error
    return weights


def export(torch, networks, request, answer):
    """Each fold becomes an ONNX graph, then all of them one that gives their mean; PyTorch's own mean beside it."""
    import numpy as np
    import onnx

    answer["parameters"] = sum(int(p.numel()) for network in networks for p in network.parameters())
    generator = torch.Generator().manual_seed(0)
    feed = torch.randn((1, request["channels"], *request["patch"]), generator=generator)
    total, graphs = None, []
    for n, network in enumerate(networks):
        size = sum(p.numel() * p.element_size() for p in network.parameters())
        if size >= LIMIT:
            raise Refused(f"one network has {size / 2**30:.1f} GB of weights; less than 2 GB can be converted")
        say(f"running and converting network {n + 1} of {len(networks)}")
        output = network(feed)
        total = output if total is None else total + output
        path = f"{request['output']}.{n}"
        try:
            torch.onnx.export(
                network, (feed,), path, dynamo=False, opset_version=17, input_names=["image"], output_names=["logits"],
                dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
            )  # fmt: skip
        except Exception as error:
            raise Refused(f"PyTorch cannot write it as ONNX ({first(error)})") from error
        graphs.append(onnx.load(path))
        Path(path).unlink()
    mean = total / len(networks) if len(networks) > 1 else total
    onnx.save(
        averaged(graphs), request["output"], save_as_external_data=True, location=Path(request["output"]).name + ".data"
    )
    np.savez(request["probe"], feed=feed.numpy(), output=mean.numpy())


def averaged(graphs):
    """One graph for all: the folds side by side on one input, their outputs added in order, divided by their count."""
    from onnx import helper, numpy_helper

    if len(graphs) == 1:
        return graphs[0]
    import numpy as np

    whole, outputs = graphs[0], []
    for n, model in enumerate(graphs):
        graph = model.graph
        inside = {o for node in graph.node for o in node.output} | {i.name for i in graph.initializer}
        for node in graph.node:
            node.name = f"fold{n}/{node.name}"
            for names in (node.input, node.output):
                for at, name in enumerate(names):
                    names[at] = f"fold{n}/{name}" if name in inside else name
        for tensor in graph.initializer:
            tensor.name = f"fold{n}/{tensor.name}"
        outputs.append(f"fold{n}/logits")
        del graph.value_info[:]
        if n:
            whole.graph.node.extend(graph.node)
            whole.graph.initializer.extend(graph.initializer)
    total = outputs[0]
    for n, name in enumerate(outputs[1:], start=1):
        whole.graph.node.append(helper.make_node("Add", [total, name], [f"sum{n}"], name=f"sum{n}"))
        total = f"sum{n}"
    whole.graph.initializer.append(numpy_helper.from_array(np.array(len(graphs), np.float32), "count"))
    whole.graph.node.append(helper.make_node("Div", [total, "count"], ["logits"], name="mean"))
    return whole


def probe_image(plan, plans, channels, patch):
    """A random image (C, z, y, x) with smooth structure and a border of zeros, and its spacing: a little more than two
    windows, its spacing not the plan's, so that cropping, resampling, padding, tiling and restoring all take part."""
    import numpy as np
    from scipy import ndimage

    random = np.random.default_rng(1)
    forward = plans.get("transpose_forward", [0, 1, 2])
    target = list(plan["spacing"])
    wanted = [round(1.3 * patch[0]), *(round(0.9 * n) for n in patch[1:])]
    if len(patch) == 2:
        target, wanted = [2.0, *target], [3, *wanted]
    spacing = (
        [s * f for s, f in zip(target, (0.9, 1.15, 0.85), strict=True)]
        if len(patch) == 3
        else [2.0, *(0.9 * s for s in target[1:])]
    )
    size = [max(3, round(n * t / s)) for n, t, s in zip(wanted, target, spacing, strict=True)]
    image = np.zeros((channels, *size), np.float32)
    inner = (slice(1, -1) if size[0] > 3 else slice(None), slice(2, -1), slice(1, -2))
    measured = plans.get("foreground_intensity_properties_per_channel") or {}
    for n in range(channels):
        own = measured.get(str(n)) or {}
        noise = ndimage.gaussian_filter(random.standard_normal(size), 2)
        noise = noise / noise.std() + 0.3 * random.standard_normal(size)
        values = (
            np.abs(noise) * 90
            if plan["normalization_schemes"][n].startswith("RGB")
            else (float(own.get("mean", 100)) + noise * max(float(own.get("std", 50)), 1e-3))
        )
        image[(n, *inner)] = (
            np.clip(values, 0.5, 255)[inner] if plan["normalization_schemes"][n].startswith("RGB") else values[inner]
        )
    back = [forward.index(a) for a in range(3)]
    return image.transpose([0, *(a + 1 for a in back)]).copy(), [spacing[a] for a in back]


class Chains:
    """nnU-Net's own predictor on a probe image for each network; ``problem``: why it cannot be run, or ""."""

    def __init__(self, torch):
        self.torch, self.version, self.problem, self.ready = torch, "", "", []
        try:
            from importlib.metadata import version

            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
            from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
        except ImportError as error:
            self.problem = f"nnU-Net itself was not at hand ({first(error)})"
            return
        self.predictor, self.plans = nnUNetPredictor, PlansManager
        self.version = version("nnunetv2")

    def run(self, request, network, weights, trainer):
        """The labels of the probe image into the request's file; of a cascade after the stage before it."""
        if self.problem:
            return
        import numpy as np

        say("running nnU-Net's own predictor on a probe image")
        predictor = self.predictor(use_mirroring=False, device=self.torch.device("cpu"), allow_tqdm=False)
        manager = self.plans(json.loads(json.dumps(request["plans"])))
        plan = manager.get_configuration(request["configuration"])
        predictor.manual_initialization(network, manager, plan, weights, request["dataset"], trainer, None)
        self.ready.append(predictor)
        image, spacing = probe_image(request["plan"], request["plans"], request["images"], request["patch"])
        before = None
        if request["previous"] is not None:
            first_stage = self.ready[request["previous"]]
            before = np.asarray(first_stage.predict_single_npy_array(image, {"spacing": spacing}), np.int16)[None]
        labels = predictor.predict_single_npy_array(image, {"spacing": spacing}, before)
        np.savez(request["chain"], image=image, spacing=spacing, labels=np.asarray(labels))


def convert(torch, request, chains):
    plan = request["plan"]
    request["channels"] = request["images"] + (len(request["labels"]) if request["previous"] is not None else 0)
    networks, weights, checkpoint = [], [], None
    for path in request["checkpoints"]:
        say(f"reading {Path(path).parent.name}")
        checkpoint = read_checkpoint(torch, path)
        if not isinstance(checkpoint, dict) or "network_weights" not in checkpoint:
            raise Refused(f"{Path(path).name} is no checkpoint of nnU-Net v2 (it has no network_weights)")
        network = build(torch, plan, request["channels"], request["outputs"])
        weights.append(with_weights(network, checkpoint, Path(path).parent.name))
        networks.append(network)
    axes = checkpoint.get("inference_allowed_mirroring_axes")
    answer = {
        "trainer": str(checkpoint.get("trainer_name", "")),
        "mirror_axes": [int(a) for a in axes] if axes is not None else [],
    }
    export(torch, networks, request, answer)
    chains.run(request, networks[0], weights, answer["trainer"])
    return answer


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # Each fold is read and converted, each network's chain is run.
    STEPS[1] = 1 + sum(2 * len(one["checkpoints"]) + 1 for one in request["networks"])
    say("loading PyTorch")
    import torch

    torch.set_grad_enabled(False)
    chains = Chains(torch)
    answer = {
        "framework": f"PyTorch {torch.__version__}",
        "networks": [convert(torch, one, chains) for one in request["networks"]],
        "nnunet": chains.version,
        "not_compared": chains.problem,
    }
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
