"""The other programs, in their own environment: reads one JSON line for each thing to do, answers with one.

``{"do": "nnunet" | "monai" | "keras", ...}`` makes a program ready, ``{"do": "run", "labels": FILE.npy}`` runs it once
on what it was made ready for and answers ``{"seconds": ..., "cpu": ...}``. MedSeg is not imported here.
"""
# mypy: ignore-errors

import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

import numpy as np


def nnunet(folder, image, mirror):
    """nnU-Net's own predictor: file to labels (K, J, I)."""
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror, perform_everything_on_device=False,
        device=torch.device("cpu"), verbose=False, allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(folder, (0,), "checkpoint_final.pth")

    def run():
        voxels, facts = SimpleITKIO().read_images([image])
        return predictor.predict_single_npy_array(voxels, facts, None, None, False)

    return run


def monai(array, patch, onnx):
    """MONAI's residual U-Net of random weights by `sliding_window_inference`, and the same network as ONNX."""
    import torch
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 1, 2, (32, 64, 128, 256), (2, 2, 2), num_res_units=2).eval()
    voxels = torch.from_numpy(np.load(array))[None, None]
    if not Path(onnx).exists():
        window = torch.zeros(1, 1, *[patch] * 3)
        torch.onnx.export(network, (window,), onnx, input_names=["x"], output_names=["y"], dynamo=False)

    def run():
        with torch.inference_mode():
            scores = sliding_window_inference(voxels, [patch] * 3, 1, network, overlap=0.5, mode="gaussian")
            return scores.argmax(1)[0].numpy().astype(np.uint8)

    return run


def keras(array, onnx):
    """Ronneberger's U-Net in Keras with the weights of ``onnx``, `predict` slice by slice."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import onnx as onnx_package
    from keras import Model, layers
    from onnx import numpy_helper

    graph = onnx_package.load(onnx).graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    slices = np.load(array)
    made = {graph.input[0].name: layers.Input((*slices.shape[1:], 1))}
    pending = []
    for node in graph.node:
        into = [made[n] for n in node.input if n in made]
        if node.op_type in ("Conv", "ConvTranspose"):
            kernel = weights[node.input[1]]
            bias = weights[node.input[2]] if len(node.input) > 2 else None
            size = kernel.shape[2:]
            if node.op_type == "Conv":
                layer = layers.Conv2D(kernel.shape[0], size, padding="same", use_bias=bias is not None)
            else:
                layer = layers.Conv2DTranspose(kernel.shape[1], size, strides=2, use_bias=False)
            made[node.output[0]] = layer(into[0])
            # (out, in, j, i) and (in, out, j, i) alike end as (j, i, second, first).
            pending.append((layer, [kernel.transpose(2, 3, 1, 0), *([] if bias is None else [bias])]))
        elif node.op_type == "Relu":
            made[node.output[0]] = layers.ReLU()(into[0])
        elif node.op_type == "MaxPool":
            made[node.output[0]] = layers.MaxPooling2D(2)(into[0])
        else:
            made[node.output[0]] = layers.Concatenate()(into)
    network = Model(made[graph.input[0].name], made[graph.output[0].name])
    for layer, values in pending:
        layer.set_weights(values)

    def run():
        scores = [network.predict(one[np.newaxis, ..., np.newaxis], verbose=0) for one in slices]
        return np.concatenate(scores).argmax(-1).astype(np.uint8)

    return run


def main():
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the programs print goes to standard error
    warnings.simplefilter("ignore")
    ready = None
    for line in sys.stdin:
        asked = json.loads(line)
        kind = asked.pop("do")
        try:
            if kind == "run":
                started, spent = time.perf_counter(), time.process_time()
                labels = ready()
                answer = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - spent}
                np.save(asked["labels"], labels)
            else:
                ready = {"nnunet": nnunet, "monai": monai, "keras": keras}[kind](**asked)
                answer = {}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
