"""A model repository for a server: a user whose export lacks a network, or says other weights, cannot run there."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

from medseg.cli import app
from medseg.engine.server import network_name
from medseg.errors import ModelError, OutputError
from medseg.library.triton import export_triton
from medseg.model.package import load_model
from support.packages import external, network, package


def test_the_repository_is_as_triton_reads_it(tmp_path: Path) -> None:
    source = package(tmp_path / "tiny")
    answer = CliRunner().invoke(app, ["models", "export", str(source), "--triton", str(tmp_path / "r"), "--json"])
    assert answer.exit_code == 0, answer.output
    (folder,) = (Path(f) for f in json.loads(answer.stdout)["networks"])
    model = load_model(source)
    assert folder.name == network_name(model) == f"tiny-{model.sha256[:12]}"
    assert hashlib.sha256((folder / "1" / "model.onnx").read_bytes()).hexdigest() == model.sha256
    text = (folder / "config.pbtxt").read_text()
    assert f'name: "{folder.name}"' in text and 'backend: "onnxruntime"' in text and "max_batch_size: 0" in text
    assert 'input { name: "x" data_type: TYPE_FP32 dims: [ 1, 1, -1, -1, -1 ] }' in text
    assert 'output { name: "y" data_type: TYPE_FP32 dims: [ 1, 2, -1, -1, -1 ] }' in text
    assert f'key: "medseg_sha256" value {{ string_value: "{model.sha256}" }}' in text
    assert [p.name for p in (tmp_path / "r").iterdir()] == [folder.name]


def test_weights_in_files_of_their_own_come_along(tmp_path: Path) -> None:
    (folder,) = export_triton(load_model(external(tmp_path / "big")), tmp_path / "r", backend="python")
    loaded = onnx.load(str(folder / "1" / "model.onnx"))
    assert np.all(onnx.numpy_helper.to_array(loaded.graph.initializer[0]) == 1)
    compile((folder / "1" / "model.py").read_text(), "model.py", "exec")


def test_models_that_run_first_are_exported_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "models" / "first", network(classes=3), id="first")
    needs = package(tmp_path / "second", id="second", requires=[{"name": "brain", "model": "first"}])
    monkeypatch.setenv("MEDSEG_MODELS", os.fspath(tmp_path / "models"))
    names = [f.name.rsplit("-", 1)[0] for f in export_triton(load_model(needs), tmp_path / "r")]
    assert names == ["second", "first"]


def test_an_earlier_export_is_replaced_only_when_asked(tmp_path: Path) -> None:
    model = load_model(package(tmp_path / "tiny"))
    (folder,) = export_triton(model, tmp_path / "r")
    (folder / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="--force"):
        export_triton(model, tmp_path / "r")
    assert (folder / "mine.txt").exists()
    export_triton(model, tmp_path / "r", force=True)
    assert not (folder / "mine.txt").exists()


def test_a_tensor_that_a_server_cannot_be_told_of_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Cast", ["y"], ["z"], to=TensorProto.BFLOAT16),
    ]
    made = network(nodes=nodes)
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.BFLOAT16, None))
    made.graph.output[1].type.tensor_type.shape.CopyFrom(made.graph.output[0].type.tensor_type.shape)
    with pytest.raises(ModelError, match="'z'"):
        export_triton(load_model(package(tmp_path / "open", made)), tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []
