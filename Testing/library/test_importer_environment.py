"""The throw-away environment vanishes whatever happens, and no code that a model file holds is ever run in it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import Cancelled, InputError, ModelError
from medseg.library.importer import ImportOptions, environment, import_model
from medseg.library.importer.environment import HERE, clean_environment, run_child
from medseg.monitor import Monitor


def script(name: str) -> Any:
    """A converter script as a module (it needs neither TensorFlow nor PyTorch until it converts)."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- environment --------------------------------------------------------------------------------------------


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    file = tmp_path / "model.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 64)
    return file


def test_an_environment_that_lacks_the_libraries_is_named(hdf5: Path, tmp_path: Path) -> None:
    options = ImportOptions(environment=Path(sys.executable))
    with pytest.raises(InputError, match="lacks what the conversion needs"):
        import_model(hdf5, "lungs-unet", tmp_path / "out", options=options)
    with pytest.raises(InputError, match="no Python environment"):
        import_model(hdf5, "lungs-unet", tmp_path / "out", options=ImportOptions(environment=tmp_path))


def test_a_failed_installation_says_what_to_do_and_leaves_nothing(
    hdf5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, scratch = tmp_path / "wheels", tmp_path / "scratch"
    wheels.mkdir()
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(ModelError, match="Give a folder of wheels, or an environment"):
        import_model(hdf5, "lungs-unet", tmp_path / "out", options=ImportOptions(wheels=wheels))
    assert list(scratch.iterdir()) == [] and not (tmp_path / "out").exists()


def test_cancel_ends_a_child_and_its_children_at_once(tmp_path: Path) -> None:
    """pip and TensorFlow start processes of their own; none may go on after Cancel."""
    alive = tmp_path / "alive"
    beat = f"pathlib.Path({str(alive)!r}).write_text(str(time.time()))"
    inner = f"import time, pathlib\nfor _ in range(600):\n {beat}\n time.sleep(.05)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    monitor = Monitor()

    def stop() -> None:
        while not alive.exists():
            time.sleep(0.02)
        monitor.cancel()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Cancelled):
        run_child([sys.executable, "-c", outer], monitor, "failed")
    time.sleep(0.3)
    last = alive.read_text()
    time.sleep(0.3)
    assert alive.read_text() == last


def test_a_child_sees_no_foreign_code_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("LD_PRELOAD", "x.so")
    kept = clean_environment()
    assert "PYTHONPATH" not in kept and "LD_PRELOAD" not in kept and kept["CUDA_VISIBLE_DEVICES"] == "-1"


def test_the_scripts_import_nothing_of_medseg() -> None:
    for name in ("keras_convert", "keras_safe", "torch_convert"):
        text = (HERE / f"{name}.py").read_text(encoding="utf-8")
        assert "from ." not in text and "import medseg" not in text and "from medseg" not in text


def test_pinned_requirements_are_exact() -> None:
    for name in ("keras-requirements.txt", "torch-requirements.txt"):
        lines = [x for x in (HERE / name).read_text().splitlines() if x and not x.startswith("#")]
        assert any(x.startswith(("tensorflow-cpu==", "torch==")) for x in lines), name


def test_an_interpreter_bound_to_its_launcher_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slicer's Python only starts with its launcher's variables: libraries are put beside it, its own stay unseen."""
    monkeypatch.setenv("PYTHONHOME", sys.base_prefix)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    wheel = tmp_path / "wheels" / "probe_of_medseg-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("probe_of_medseg.py", "value = 42\n")
        archive.writestr(
            "probe_of_medseg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: probe-of-medseg\nVersion: 1.0\n"
        )
        archive.writestr(
            "probe_of_medseg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("probe_of_medseg-1.0.dist-info/RECORD", "")
    needed = tmp_path / "needed.txt"
    needed.write_text("probe-of-medseg==1.0\n")
    with environment.environment(str(needed), "", python=None, wheels=wheel.parent, monitor=Monitor()) as found:
        text = "import sys, probe_of_medseg as p; print(p.value, any('site-packages' in x for x in sys.path))"
        done = subprocess.run(
            [*found.command, "-c", text], env=found.variables, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["42", "False"]
        site = Path(found.variables["PYTHONPATH"])
        assert site.is_dir()
    assert not site.exists()


# -- Keras descriptions -------------------------------------------------------------------------------------


def layer(kind: str, name: str = "l", **more: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"name": name, **more.pop("config", {})}, **more}


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": "m", "layers": list(layers)}}


def test_a_lambda_becomes_the_operation_that_the_recipe_names() -> None:
    safe = script("keras_safe")
    bytecode = ["4wEAAAAAAAAAAQ==\n", None, None]
    given = model(
        layer(
            "Lambda",
            "match",
            config={"function": bytecode, "function_type": "lambda"},
            inbound_nodes=[[["a", 0, 0, {}]]],
        )
    )
    (found,) = safe.safe_config(given, {"match": "crop_top_left_to"}, 2)["config"]["layers"]
    assert found["class_name"] == "MedSegOperation" and found["config"] == {
        "name": "match",
        "operation": "crop_top_left_to",
    }
    assert found["inbound_nodes"] == [[["a", 0, 0, {}]]]
    assert "4wEAAA" not in json.dumps(safe.safe_config(given, {"match": "identity"}, 2))


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (layer("Lambda", "x", config={"function": ["4w==", None, None]}), "holds code"),
        (layer("Evil"), "not one of Keras' own"),
        (layer("Dense", module="os"), "not one of Keras' own"),
        (layer("Dense", module="keras_evil.layers"), "not one of Keras' own"),
        (layer("Dense", registered_name="Pack>Evil"), "registered class"),
        (layer("Pack>Dense"), "not one of Keras' own"),
        (layer("TFOpLambda", config={"function": "io.write_file"}), "not allowed"),
        (layer("TFOpLambda", config={"function": "raw_ops.PyFunc"}), "not allowed"),
        (layer("SlicingOpLambda", config={"function": "numpy_function"}), "not allowed"),
        (layer("Sequential", config={"layers": [layer("Lambda", "deep")]}), "'deep' holds code"),
        (layer("Activation", config={"activation": {"class_name": "f", "config": "f", "module": "os"}}), "not one"),
        (layer("TextVectorization"), "not one of Keras' own"),
        (layer("TorchModuleWrapper"), "not one of Keras' own"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("generation", [2, 3])
def test_descriptions_with_code_are_refused(bad: dict[str, Any], match: str, generation: int) -> None:
    safe = script("keras_safe")
    with pytest.raises(safe.Refused, match=match):
        safe.safe_config(model(layer("InputLayer", "i"), bad), {}, generation)


def test_what_trains_only_is_dropped_and_constants_stay() -> None:
    """Initialisers may name code; the positional code of TransUNet is a list inside the description."""
    safe = script("keras_safe")
    evil = {"class_name": "Evil", "config": {}, "module": "os"}
    positions = [[0.25] * 100, [0.5] * 100]
    given = model(
        layer(
            "Dense",
            config={"units": 3, "kernel_initializer": evil, "bias_regularizer": evil, "kernel_constraint": evil},
        ),
        layer(
            "TFOpLambda", "add", config={"function": "__operators__.add"}, inbound_nodes=[["l", 0, 0, {"y": positions}]]
        ),
    )
    dense, add = safe.safe_config({**given, "compile_config": evil}, {}, 2)["config"]["layers"]
    assert dense["config"] == {"name": "l", "units": 3} and add["inbound_nodes"][0][3]["y"] == positions


def test_known_layers_of_other_libraries_become_keras_own() -> None:
    safe = script("keras_safe")
    given = model(
        layer("Addons>InstanceNormalization", "n", config={"axis": -1, "epsilon": 1e-5, "groups": 7, "call": "code"}),
        layer("FixedDropout", "d", config={"rate": 0.2}),
    )
    norm, dropout = safe.safe_config(given, {}, 2)["config"]["layers"]
    assert (
        norm["class_name"] == "GroupNormalization" and norm["config"]["groups"] == -1 and "call" not in norm["config"]
    )
    assert dropout["class_name"] == "Dropout"


# -- PyTorch programs ---------------------------------------------------------------------------------------


def program(folder: Path, graph: dict[str, Any], **files: Any) -> Path:
    file = folder / "model.pt2"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", json.dumps({"graph_module": graph, "guards_code": ["exec('1')"]}))
        archive.writestr("m/data/sample_inputs/model.pt", b"\x80\x04evil")
        for name, content in files.items():
            archive.writestr(name, json.dumps(content))
    return file


def test_a_program_is_copied_without_its_pickles_and_guards(tmp_path: Path) -> None:
    torch = script("torch_convert")
    node = {"target": "torch.ops.aten.relu.default", "inputs": []}
    expression = {"expr_str": "Symbol('s31', positive=True, integer=True)"}
    torch.clean_copy(program(tmp_path, {"nodes": [node], "sizes": expression}), tmp_path / "clean.pt2")
    with zipfile.ZipFile(tmp_path / "clean.pt2") as archive:
        assert archive.read("m/data/sample_inputs/model.pt") == b""
        assert json.loads(archive.read("m/models/model.json"))["guards_code"] == []


@pytest.mark.parametrize(
    ("graph", "files", "match"),
    [
        ({"target": "torch.hub.load", "inputs": []}, {}, "torch.hub.load"),
        ({"target": "os.system", "inputs": []}, {}, "os.system"),
        ({"target": "torch.ops.evil.run.default", "inputs": []}, {}, "not an operator"),
        ({"expr_str": "__import__('os').system('x')"}, {}, "more than arithmetic"),
        ({"expr_str": "open('x')"}, {}, "more than arithmetic"),
        ({}, {"m/data/weights/model_weights_config.json": {"config": {"w": {"use_pickle": True}}}}, "are pickles"),
        ({}, {"m/data/aotinductor/model.json": {}}, "compiled code"),
    ],
)  # fmt: skip
def test_programs_that_could_run_code_are_refused(
    tmp_path: Path, graph: dict[str, Any], files: dict[str, Any], match: str
) -> None:
    torch = script("torch_convert")
    with pytest.raises(torch.Refused, match=match):
        torch.clean_copy(program(tmp_path, graph, **files), tmp_path / "clean.pt2")
