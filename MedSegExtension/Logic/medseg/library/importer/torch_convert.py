"""Converts a PyTorch program to ONNX. Runs alone, in an environment with PyTorch; imports nothing of MedSeg.

``python -I torch_convert.py request.json answer.json``

ExportedProgram (``.pt2``): the archive is copied without its sample inputs (a pickle), weights that are pickles are
refused, every operator must be one of ``aten`` or plain arithmetic, every size expression must be arithmetic on
symbols (PyTorch hands them to an evaluator), guards are dropped. What is then loaded is a graph and plain arrays.

TorchScript (``.pt``): PyTorch reads it with an unpickler of its own that makes TorchScript types only, but the program
in it does run, in the interpreter of TorchScript. That interpreter has no file or network functions; it is
nevertheless a program, and the user is told so.
"""
# mypy: ignore-errors

import json
import re
import sys
import tempfile
import zipfile
from pathlib import Path

LIMIT = 8 << 30
_ARITHMETIC = "add|sub|mul|floordiv|truediv|mod|neg|getitem|pow|eq|ne|lt|le|gt|ge"
TARGET = re.compile(rf"^(torch\.ops\.(aten|prims)\.\w+\.\w+|_operator\.({_ARITHMETIC})|math\.(ceil|floor|trunc))$")
SYMBOL = re.compile(r"'[a-z]+\d+'")
WORDS = re.compile(r"[A-Za-z_]\w*")
KNOWN = {
    "Symbol", "positive", "nonnegative", "integer", "True", "False", "Integer", "Add", "Mul", "Pow", "Max", "Min",
    "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilToInt", "FloorToInt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge",
}  # fmt: skip


class Refused(Exception):
    """A sentence for the user."""


def say(text):
    print("progress: " + text, flush=True)


def check_expression(text):
    """Refuse a size expression that is more than arithmetic on symbols."""
    rest = SYMBOL.sub("", text)
    words = [w for w in WORDS.findall(rest) if w not in KNOWN and not re.fullmatch(r"[suz]\d+", w)]
    if words or not re.fullmatch(r"[\w\s+\-*/(),=]*", rest):
        raise Refused(f"a size expression in the program is more than arithmetic: {text[:80]!r}")


def check_program(value):
    """Refuse operators and expressions that are not known to be harmless, anywhere in the program's description."""
    if isinstance(value, dict):
        target = value.get("target")
        if isinstance(target, str) and "inputs" in value and not TARGET.match(target):
            raise Refused(f"the program calls {target[:80]!r}, which is not an operator of a network")
        for key, item in value.items():
            if key == "expr_str":
                check_expression(str(item))
            check_program(item)
    elif isinstance(value, list):
        for item in value:
            check_program(item)


def clean_copy(path, target):
    """Copy a .pt2 archive without anything that would be unpickled; `Refused` where it needs that."""
    total = 0
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as out:
        programs = 0
        for info in source.infolist():
            total += info.file_size
            if total > LIMIT:
                raise Refused("the archive is larger than 8 GB")
            data = source.read(info)
            name = info.filename
            if "/data/sample_inputs/" in name:
                data = b""
            elif name.endswith("_config.json"):
                config = json.loads(data)
                if any(item.get("use_pickle") for item in config.get("config", {}).values()):
                    raise Refused(
                        "some of its weights are pickles, which run code when loaded; export it with plain tensors"
                    )
            elif "/models/" in name and name.endswith(".json"):
                program = json.loads(data)
                check_program(program)
                program["guards_code"] = []
                data, programs = json.dumps(program).encode(), programs + 1
            elif "/aotinductor/" in name or name.endswith((".so", ".dll", ".cubin", ".py", ".pkl")):
                raise Refused("it holds compiled code or pickles; export the model itself with torch.export.save")
            out.writestr(zipfile.ZipInfo(name), data)
    if not programs:
        raise Refused(
            "it is an ExportedProgram of an older form, whose tensors are pickles; save it again with PyTorch 2.8+"
        )


def main():
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    say("loading PyTorch")
    import numpy as np
    import torch

    torch.set_grad_enabled(False)
    with zipfile.ZipFile(request["model"]) as archive:
        script = any("/code/" in n for n in archive.namelist())
    feed = torch.from_numpy(np.random.default_rng(0).standard_normal(request["shape"]).astype(np.float32))
    names = {"input_names": [request["input_name"]], "output_names": [request["output_name"]]}
    with tempfile.TemporaryDirectory(dir=Path(sys.argv[1]).resolve().parent) as folder:
        try:
            if script:
                program = torch.jit.load(request["model"], map_location="cpu").eval()
                run, parameters = program, program.parameters()
            else:
                clean = Path(folder) / "program.pt2"
                clean_copy(request["model"], clean)
                program = torch.export.load(str(clean))
                run, parameters = program.module(), program.parameters()
        except Refused:
            raise
        except Exception as error:
            raise Refused(f"PyTorch cannot read the program ({first(error)})") from error
        count = sum(int(p.numel()) for p in parameters)
        say("running the original network")
        try:
            result = run(feed)
        except Exception as error:
            shape = " x ".join(map(str, request["shape"]))
            raise Refused(f"the program does not take an input of {shape} ({first(error)})") from error
        if not isinstance(result, torch.Tensor):
            if not isinstance(result, (list, tuple)) or len(result) != 1:
                raise Refused("the program gives several outputs; export one with a single output")
            result = result[0]
        say("converting to ONNX")
        try:
            if script:
                axes = {name: {0: "N"} for name in (request["input_name"], request["output_name"])}
                torch.onnx.export(
                    program, (feed,), request["output"], dynamo=False, opset_version=17, dynamic_axes=axes, **names
                )
            else:
                torch.onnx.export(program, (feed,), request["output"], dynamo=True, external_data=False, **names)
        except Exception as error:
            raise Refused(f"PyTorch cannot write it as ONNX ({first(error)})") from error
        np.savez(request["probe"], feed=feed.numpy(), output=result.numpy())
    kind = "TorchScript" if script else "ExportedProgram"
    answer = {"parameters": count, "framework": f"PyTorch {torch.__version__}, {kind}", "script": script}
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
