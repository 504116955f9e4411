"""Make a small Raidionics model folder, the first argument; run with Slicer's Python, which has ``onnx``.

Its network finds what is brighter than the mean of the (normalised) image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SETTINGS = """[Default]
imaging_modality=MRI
[PreProcessing]
output_spacing=1.5,1.5,2.0
normalization_method=zeromean
number_inputs=1
channels_order=channels_first
[Training]
nb_classes=2
classes=Background, Tumor
patch_size=48,48,32
patch_offset=0,0,0
optimal_thresholds=0.5,0.6
"""

folder = Path(sys.argv[1])
folder.mkdir(parents=True)
(folder / "pre_processing.ini").write_text(SETTINGS, encoding="utf-8")
sides = ["a", "b", "c"]
graph = helper.make_graph(
    [helper.make_node("Conv", ["x", "w"], ["z"]), helper.make_node("Softmax", ["z"], ["y"], axis=1)],
    "raidionics",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, *sides])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, *sides])],
    [numpy_helper.from_array(np.array([-4, 4], np.float32).reshape(2, 1, 1, 1, 1), "w")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, str(folder / "model.onnx"))
