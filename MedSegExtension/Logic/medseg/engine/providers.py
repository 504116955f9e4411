"""The names of devices, and the ONNX Runtime providers and options behind them."""

from __future__ import annotations

import onnxruntime

from ..errors import InputError
from ..model.package_files import cache_folder
from .machine import physical_cores

PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


CPU = PROVIDERS["cpu"]


WORDS = {
    "cuda": "CUDA", "tensorrt": "TensorRT", "directml": "DirectML", "coreml": "CoreML", "openvino": "OpenVINO",
    "cpu": "CPU",
}  # fmt: skip


# Operators whose place decides the speed; shape arithmetic belongs on the CPU.
_HEAVY = {
    "Conv", "ConvTranspose", "MatMul", "Gemm", "InstanceNormalization", "BatchNormalization", "LayerNormalization",
    "GroupNormalization", "Resize", "MaxPool", "AveragePool", "FusedConv", "QLinearConv", "ConvInteger",
}  # fmt: skip

_ALIASES = {"dml": "directml", "trt": "tensorrt", "gpu": "auto"}


def parse_device(device: str) -> tuple[str, str]:
    """``("cuda", "0")`` for ``cuda:0``; ``("auto", "")``. `InputError` for what is no device id."""
    kind, _, which = device.strip().lower().partition(":")
    kind = _ALIASES.get(kind, kind)
    valid = {"": True, "openvino": which in ("", "cpu", "gpu", "npu")}.get(kind, which == "" or which.isdecimal())
    if (kind != "auto" and kind not in PROVIDERS) or not valid or (kind in ("auto", "cpu", "coreml") and which):
        raise InputError(
            f"{device!r} is not a device; choose auto, cpu, cuda, cuda:1, tensorrt, directml, coreml, openvino:gpu or "
            "openvino:cpu."
        )
    return kind, which


def providers_for(device: str, precision: str = "auto") -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers and their options for a device id, the CPU last.

    ``precision``: ``float32`` forbids TF32; ``float16`` is for TensorRT and OpenVINO only; ``auto`` is the provider's
    usual single precision.
    """
    kind, which = parse_device(device)
    number = which if which.isdecimal() else "0"
    half = precision == "float16"
    cuda = {
        "device_id": number,
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0" if precision == "float32" else "1",
    }
    options: dict[str, list[tuple[str, dict[str, str]]]] = {
        "cuda": [(PROVIDERS["cuda"], cuda)],
        "directml": [(PROVIDERS["directml"], {"device_id": number})],
        "coreml": [(PROVIDERS["coreml"], {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"})],
        # OpenVINO computes in half precision on graphics cards unless told otherwise.
        "openvino": [
            (PROVIDERS["openvino"], {"device_type": which.upper() or "AUTO", "precision": "FP16" if half else "FP32"})
        ],
        "cpu": [],
    }
    if kind == "tensorrt":
        engines = cache_folder() / "tensorrt"
        engines.mkdir(exist_ok=True, mode=0o700)
        tensorrt = {
            "device_id": number,
            "trt_fp16_enable": str(half),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(engines),
        }
        options["tensorrt"] = [(PROVIDERS["tensorrt"], tensorrt), (PROVIDERS["cuda"], cuda)]
    return [*options[kind], (CPU, {})]


def session_options(
    kind: str, threads: int | None = None, *, whole: bool = False, arena: bool = True
) -> onnxruntime.SessionOptions:
    """Quiet options: ONNX Runtime writes nothing to stderr, what matters is told through the monitor.

    ``whole``: whole volumes are run; without a memory pattern their peak is lower. ``arena``: memory is kept for the
    next run, which is faster; off, a whole volume takes a fifth longer and its memory is given back.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # A file that is both ONNX and ORT format must be read as what was checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.intra_op_num_threads = threads if threads is not None else physical_cores()
    options.inter_op_num_threads = 1
    if kind == "directml" or whole:
        options.enable_mem_pattern = False
    options.enable_cpu_mem_arena = arena
    return options


def parts_left_to_the_cpu(session: onnxruntime.InferenceSession, kind: str) -> str:
    """A warning where the provider of ``kind`` left large operators of ``session`` to the CPU, else ""."""
    if kind == "cpu":
        return ""
    try:
        parts = session.get_provider_graph_assignment_info()
        heavy = [(p.ep_name, n.op_type) for p in parts for n in p.get_nodes() if n.op_type in _HEAVY]
    except (AttributeError, RuntimeError):  # onnxruntime < 1.24 does not tell
        return ""
    on_cpu = sorted({op for name, op in heavy if name == CPU})
    count = sum(name == CPU for name, _ in heavy)
    if not count:
        return ""
    return (
        f"{WORDS[kind]} leaves {count} of {len(heavy)} large operators of this network to the CPU "
        f"({', '.join(on_cpu)}), so it may be slow."
    )
