"""A checkpoint is a pickle, and a pickle can run code: one that asks for more than weights is refused unopened.

If these failed, importing a downloaded model could take over the user's computer. Also: what a folder holds is said
before anything is converted, and ensembles too large for one ONNX file are kept.
"""

from __future__ import annotations

import collections
import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from test_importer_bundles import nnunet

from medseg import load_model
from medseg.errors import ModelError
from medseg.library.importer import ImportOptions, import_model, onnx_tidy
from medseg.library.importer.environment import HERE, clean_environment
from medseg.library.importer.nnunet_folder import understood
from medseg.library.importer.pickle_names import check_weights_only, names
from medseg.model.onnx_check import check_safe, read_onnx
from support.packages import network


class Calls:
    """Unpickled, it calls ``function`` with ``argument``."""

    def __init__(self, function: Any, argument: str) -> None:
        self.call = (function, (argument,))

    def __reduce__(self) -> Any:
        return self.call


def checkpoint(path: Path, content: Any, protocol: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        archive.writestr("archive/version", "3")
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, subprocess.check_output])
def test_code_in_a_checkpoint_is_refused_before_anything_is_made(tmp_path: Path, function: Any, protocol: int) -> None:
    """Before the environment for the conversion, which takes minutes; and the code leaves no trace."""
    mark = tmp_path / "ran"
    text = f"open({str(mark)!r}, 'w')" if function in (eval, exec) else f"touch {mark}"
    folder = nnunet(tmp_path)
    evil = {"network_weights": collections.OrderedDict(), "trainer_name": Calls(function, text)}
    checkpoint(folder / "fold_0" / "checkpoint_final.pth", evil, protocol)
    with pytest.raises(ModelError, match=r"fold_0/checkpoint_final.pth holds more than weights \(it asks for "):
        import_model(folder, None, tmp_path / "package", options=ImportOptions(environment=Path("none")))
    assert not mark.exists() and not (tmp_path / "package").exists()


def test_a_name_that_is_put_together_while_unpickling_is_refused(tmp_path: Path) -> None:
    """The two parts of the name come from the memo, not from the text just before."""
    tricky = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94NN00h\x00h\x01\x93\x8c\x04true\x85R."
    assert list(names(tricky)) == ["? ?"]
    with pytest.raises(ModelError, match="asks for"):
        check_weights_only(checkpoint(tmp_path / "fold_0" / "x.pth", tricky))


@pytest.mark.parametrize(("at", "value"), [(8, 1), (10, 99)])
def test_a_member_that_cannot_be_unpacked_is_damage(tmp_path: Path, at: int, value: int) -> None:
    """An archive whose directory says encrypted, or an unknown method, is told as a file to get again."""
    file = checkpoint(tmp_path / "fold_0" / "x.pth", {"network_weights": {}})
    data = bytearray(file.read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + at] = value
    file.write_bytes(data)
    with pytest.raises(ModelError, match="is no checkpoint of PyTorch, or is cut off"):
        check_weights_only(file)


def test_what_nnunet_writes_passes(tmp_path: Path) -> None:
    content = {
        "network_weights": collections.OrderedDict(), "logging": {"loss": [np.float64(1), np.float32(2)]},
        "_best_ema": np.float64(0.5), "inference_allowed_mirroring_axes": (0, 1, 2), "init_args": {"fold": 0},
    }  # fmt: skip
    check_weights_only(checkpoint(tmp_path / "fold_0" / "x.pth", content))


def test_the_given_checkpoints_pass(shared: Path) -> None:
    files = sorted((shared / "nnunet").rglob("*.pth"))
    assert files
    for file in files:
        check_weights_only(file)


@pytest.mark.recipes
def test_pytorch_refuses_it_too(tmp_path: Path) -> None:
    """The second guard, in the environment of the conversion (``MEDSEG_NNUNET``)."""
    python = os.environ.get("MEDSEG_NNUNET")
    if not python:
        pytest.skip("MEDSEG_NNUNET names no environment with PyTorch")
    mark = tmp_path / "ran"
    file = checkpoint(tmp_path / "fold_0" / "x.pth", {"network_weights": Calls(os.system, f"touch {mark}")})
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import torch, nnunet_convert as c\n"
        f"try: c.read_checkpoint(torch, {str(file)!r})\nexcept c.Refused as error: print(error)"
    )
    interpreter = Path(python) / "bin" / "python" if Path(python).is_dir() else Path(python)
    done = subprocess.run(
        [str(interpreter), "-c", code], env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert "holds more than weights (it asks for posix.system)" in done.stdout and not mark.exists()


# -- large ensembles ----------------------------------------------------------------------------------------


def test_weights_that_one_onnx_file_cannot_hold_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is 1.5 GB; here it is small. The package is complete, hashed and travels as a zip."""
    monkeypatch.setattr(onnx_tidy, "EXTERNAL_ABOVE", 1000)
    folder = nnunet(tmp_path, classes=3)
    big = network(classes=3)
    big.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 1, 1, 1, 1), np.float32), "w"))
    big.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(4000, np.float32), "unused"))
    onnx.save(big, str(folder / "fold_0" / "model.onnx"))
    made = import_model(folder, None, tmp_path / "package")
    assert (made / "model.onnx.data").stat().st_size >= 16000
    assert check_safe(read_onnx(made / "model.onnx"), made / "model.onnx", made) == ["model.onnx.data"]
    assert load_model(made).data_files == ("model.onnx.data",)
    zipped = import_model(folder, None, tmp_path / "package.zip")
    assert load_model(zipped).sha256 == load_model(made).sha256


def test_folds_side_by_side_give_their_mean(tmp_path: Path) -> None:
    """The conversion's own joining of graphs: two folds with other weights, one input."""
    sys.path.insert(0, str(HERE))
    try:
        from nnunet_convert import averaged
    finally:
        sys.path.remove(str(HERE))
    graphs = []
    for value in (1.0, 3.0):
        one = network(classes=3)
        onnx_tidy.rename(one, {"x": "image", "y": "logits"})
        one.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(np.full((3, 1, 1, 1, 1), value, np.float32), one.graph.initializer[0].name)
        )
        graphs.append(one)
    whole = averaged(graphs)
    onnx.checker.check_model(whole)
    image = np.random.default_rng(0).random((1, 1, 4, 5, 6)).astype(np.float32)
    (found,) = onnx_tidy.session(whole).run(None, {"image": image})
    assert np.allclose(found, 2 * np.repeat(image, 3, axis=1))


# -- what a folder holds ------------------------------------------------------------------------------------


def test_what_a_folder_or_zip_holds_is_said(tmp_path: Path) -> None:
    """Configurations, folds, classes, channels: what a user chooses from; a cascade names its first stage."""
    first = nnunet(tmp_path, plan={"spacing": [2.0, 1.5, 1.0]})
    for fold in ("fold_0", "fold_1"):
        checkpoint(first / fold / "checkpoint_final.pth", {})
    plans = json.loads((first / "plans.json").read_text())
    plans["configurations"]["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    for name in ("3d_lowres", "3d_cascade_fullres"):
        other = tmp_path / f"nnUNetTrainer__nnUNetPlans__{name}"
        checkpoint(other / "fold_0" / "checkpoint_best.pth", {})
        (other / "plans.json").write_text(json.dumps(plans))
        (other / "dataset.json").write_text((first / "dataset.json").read_text())
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for item in tmp_path.glob("nnUNet*/**/*"):
            file.write(item, item.relative_to(tmp_path))
    for place in (tmp_path, archive):
        found = {u["configuration"]: u for u in understood(place)}
        assert set(found) == {"3d_fullres", "3d_lowres", "3d_cascade_fullres"}
        full = found["3d_fullres"]
        assert full["folds"] == ["0", "1"] and full["classes"] == ["liver", "tumour"] and full["channels"] == ["CT"]
        assert full["spacing"] == [1.0, 1.5, 2.0] and full["patch"] == [64, 48, 32] and full["problem"] == ""
        assert found["3d_cascade_fullres"]["previous"] == "3d_lowres"
    (first / "plans.json").write_text("{}")
    assert "choose one" in next(u["problem"] for u in understood(tmp_path) if u["folder"] == first.name)


def test_a_cascade_without_its_first_stage_says_what_is_missing(tmp_path: Path) -> None:
    folder = nnunet(tmp_path, plan={"previous_stage": "3d_lowres"})
    with pytest.raises(Exception, match="needs the result of 3d_lowres in a folder beside it"):
        import_model(folder, None, tmp_path / "package")
