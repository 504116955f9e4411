"""The ``medseg`` command: what a script relies on (exit codes, JSON, folders) and what a person reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

import medseg.cli
from medseg.cli.cases import case_names
from medseg.cli.console import worst
from support import tiny_networks
from support.io_samples import write_dicom, write_nifti

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.arange(6 * 16 * 16, dtype=np.int16).reshape(6, 16, 16)
BRIGHT = 1000
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "MedSegExtension" / "Logic")}


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Logs, caches and installed models of this test only."""
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MEDSEG_CACHE_DIR", str(tmp_path / "cache"))


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Save a tiny network with the output's shape, which a model that is brought by a user has."""
    shape = [f"y{n}" if n != 1 else 2 for n in range(4)]
    proto.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape))
    onnx.save(proto, path)


def package(folder: Path, proto: onnx.ModelProto | None = None, **changes) -> Path:
    """A model that calls voxels above `BRIGHT` class 1."""
    folder.mkdir(parents=True, exist_ok=True)
    weight = np.array([0.0, 1.0], np.float32).reshape(2, 1, 1, 1)
    save(proto or tiny_networks.convolution(weight, [0.0, -float(BRIGHT)]), folder / "model.onnx")
    inference = {"mode": "slicewise", "plane": "axial"}
    manifest = tiny_networks.manifest(inference, {"restore": "labels"}, **changes)
    (folder / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True))
    return folder


@pytest.fixture
def model(tmp_path) -> Path:
    return package(tmp_path / "model")


@pytest.fixture
def image(tmp_path) -> Path:
    return write_nifti(tmp_path / "head.nii.gz", IMAGE, qform_code=1)


def medseg_command(*arguments: object):
    return CliRunner().invoke(medseg.cli.app, [str(a) for a in arguments])


def run_quickly(model, *arguments: object):
    return medseg_command("run", model, *arguments, "--no-scene", "--device", "cpu")


def test_a_run_writes_the_result_and_says_what_is_in_it(model, image, tmp_path):
    done = run_quickly(model, image, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "segmentation.seg.nrrd")))
    assert np.array_equal(labels > 0, IMAGE > BRIGHT)
    assert "class 1" in done.stdout and str(int((IMAGE > BRIGHT).sum())) in done.stdout
    assert "segments.csv" in done.stdout and "CPU" in done.stdout
    assert "head.nii.gz: running the network" in done.stderr, "stages are plain lines where there is no terminal"


def test_json_is_one_document_and_nothing_else_reaches_stdout(model, tmp_path):
    """A cut JPEG makes a native library print on stdout; a script that parses JSON must not see that."""
    write_nifti(tmp_path / "bare.nii", IMAGE)
    noisy = """
import os, medseg.cli, medseg.io.files as files
quiet = files.read_nifti
def read(path):
    os.write(1, b"noise from a library")
    return quiet(path)
files._READERS = (((".nii",), read),)
medseg.cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", noisy, "run", model, "bare.nii", "-o", "out", "--no-scene", "--json"], cwd=tmp_path,
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert done.returncode == document["exit_code"] == 0
    (outcome,) = document["results"]
    assert outcome["folder"] == "out"
    assert outcome["tables"]["segments"][0]["voxels"] == int((IMAGE > BRIGHT).sum())
    assert outcome["result"]["model"]["id"] == "tiny" and outcome["result"]["provider"] == "CPUExecutionProvider"
    assert any("does not say how it lies" in w for w in outcome["result"]["warnings"])
    assert "noise from a library" in done.stderr and "warning:" in done.stderr


def test_a_batch_goes_on_after_a_bad_file_and_its_code_says_so(model, image, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(image.read_bytes()[:60])
    other = write_nifti(tmp_path / "other.nii", IMAGE[::-1].copy(), qform_code=1)
    done = run_quickly(model, image, bad, other, "-o", tmp_path / "out")
    assert done.exit_code == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["cases.csv", "head", "other"]
    assert "bad.nii.gz" in done.stderr and "truncated" in done.stderr and "2 of 3 done." in done.stdout
    document = json.loads(run_quickly(model, image, bad, "-o", tmp_path / "again", "--json").stdout)
    assert document["exit_code"] == 2
    assert document["results"][1]["error"]["kind"] == "InputError" and "folder" in document["results"][0]


def test_batch_folders_are_told_apart(tmp_path):
    """sub-01/flair.nii.gz and sub-02/flair.nii.gz must not overwrite each other."""
    paths = [tmp_path / p for p in ("sub-01/flair.nii.gz", "sub-02/flair.nii.gz", "t1.nii", "a/t1.nii", "a/t1.nii")]
    names = case_names(paths)
    assert names[:2] == ["sub-01_flair", "sub-02_flair"]
    assert len(set(names)) == 5


def test_an_earlier_result_is_kept_without_force(model, image, tmp_path):
    assert run_quickly(model, image, "-o", tmp_path / "out").exit_code == 0
    before = (tmp_path / "out" / "segments.csv").read_bytes()
    refused = run_quickly(model, image, "-o", tmp_path / "out")
    assert refused.exit_code == 2 and "--force" in refused.stderr
    (tmp_path / "out" / "mine.txt").write_text("kept")
    assert run_quickly(model, image, "-o", tmp_path / "out", "--force").exit_code == 0
    assert (tmp_path / "out" / "segments.csv").read_bytes() == before and (tmp_path / "out" / "mine.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "no-such-model", "head.nii.gz", "-o", "out"], 3, "no installed model"),
        (["run", "model", "missing.nii.gz", "-o", "out"], 2, "missing.nii.gz: there is no such file"),
        (["run", "model", "-o", "out"], 2, "No input was given"),
        (["run", "model", "head.nii.gz", "-o", "head.nii.gz"], 2, "is a file"),
        (["run", "model", "head.nii.gz", "-o", "out", "--device", "toaster"], 2, "not a device"),
        (["run", "model", "head.nii.gz", "-o", "out", "--device", "coreml"], 4, "does not run"),
        (["run", "model", "head.nii.gz", "-o", "out", "--input", "image"], 2, "not of the form NAME=FILE"),
        (["run", "model", "head.nii.gz", "-o", "out", "--input", "T2=head.nii.gz"], 2, "no channel 'T2'"),
        (["run", "model", "head.nii.gz", "-o", "out", "--window", "forty"], 2, "not LEVEL,WIDTH"),
        (["run", "model", "head.nii.gz", "-o", "out", "--series", "3"], 2, "not DICOM"),
        (["run", "model", "head.nii.gz"], 2, "output"),
        (["models", "check", "broken"], 3, "titel"),
    ],
)
def test_exit_codes_and_sentences(model, image, tmp_path, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    raw = json.loads((model / "manifest.json").read_text())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text(json.dumps({**raw, "titel": raw["title"]}))
    done = medseg_command(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr and "Traceback" not in done.output
    assert not (tmp_path / "out").exists(), "a refused run leaves nothing"


def test_the_codes_are_in_the_help():
    for command in ([], ["run"], ["models", "check"]):
        text = " ".join(medseg_command(*command, "--help").stdout.split())
        assert "0 done, 2 bad input or option, 3 the model cannot be used, 4 the device failed, 130 cancelled" in text
    assert worst([0, 2, 4, 3]) == 4 and worst([2, 1]) == 1 and worst([1, 130]) == 130 and worst([]) == 0


def test_channels_by_name_and_the_missing_one_is_named(tmp_path, image):
    add = tiny_networks.model(
        [onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"])], {"x": [None, 2, None, None]}, ["y"],
        {"w": np.array([[0, 0], [1, -1]], np.float32).reshape(2, 2, 1, 1), "b": np.zeros(2, np.float32)},
    )  # fmt: skip
    two = package(tmp_path / "two", add, channels=[{"name": "T1"}, {"name": "FLAIR"}])
    flair = write_nifti(tmp_path / "flair.nii", np.full_like(IMAGE, 500) + (IMAGE % 2), qform_code=1)
    missing = run_quickly(two, image, "-o", tmp_path / "a")
    assert missing.exit_code == 2 and "also needs the channel 'FLAIR'" in missing.stderr
    named = run_quickly(two, "--input", f"FLAIR={flair}", "--input", f"T1={image}", "-o", tmp_path / "b")
    ordered = run_quickly(two, image, flair, "-o", tmp_path / "c")
    assert named.exit_code == ordered.exit_code == 0
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / d / "segmentation.seg.nrrd"))) for d in "bc"]
    assert np.array_equal(labels[0], labels[1])
    assert np.array_equal(labels[0] > 0, IMAGE > 500 + IMAGE % 2)


def test_a_dicom_series_is_chosen_and_never_guessed(model, tmp_path):
    for series in (1, 2):
        for n, pixels in enumerate(IMAGE):
            write_dicom(tmp_path / "study" / f"{series}-{n}", pixels + series, SeriesNumber=series,
                        SeriesInstanceUID=f"1.2.{series}", ImagePositionPatient=[0, 0, n])  # fmt: skip
    refused = run_quickly(model, tmp_path / "study", "-o", tmp_path / "out")
    assert refused.exit_code == 2 and "number 2: CT, 6 slices" in refused.stderr and "SECRET" not in refused.output
    chosen = run_quickly(model, tmp_path / "study", "-o", tmp_path / "out", "--series", "2", "--json")
    rows = json.loads(chosen.stdout)["results"][0]["tables"]["segments"]
    assert rows[0]["voxels"] == int((IMAGE + 2 > BRIGHT).sum())


def test_explain_gives_the_plan_and_the_exact_network_input(model, image, tmp_path):
    file = tmp_path / "t.npz"
    done = medseg_command("explain", model, image, "--tensors", file, "--json")
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and any("6 axial slices" in line for line in document["lines"])
    with np.load(file) as tensors:
        assert np.array_equal(tensors["x"][:, 0], IMAGE) and tensors["x"].dtype == np.float32
    assert document["tensors"] == {"x": {"shape": [6, 1, 16, 16], "dtype": "float32"}}
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["t.npz"]
    nowhere = medseg_command("explain", model, image, "--tensors", tmp_path / "no" / "t.npz")
    assert nowhere.exit_code == 2 and "cannot be written" in nowhere.stderr
    assert "6 axial slices" in medseg_command("explain", model, image).stdout


def test_models_are_listed_shown_and_checked(model, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSEG_MODELS", str(model))
    listed = json.loads(medseg_command("models", "list", "--json").stdout)["models"]
    assert "tiny" in [m["id"] for m in listed]
    assert "Tiny" in medseg_command("models", "list").stdout
    shown = medseg_command("models", "show", "tiny")
    assert shown.exit_code == 0 and "class 1" in shown.stdout and "Apache-2.0" in shown.stdout
    checked = json.loads(medseg_command("models", "check", "tiny", "--json").stdout)
    assert checked["exit_code"] == 0 and checked["tensors"]["x"] == [None, 1, None, None]
    (model / "model.onnx").write_bytes(b"nothing")
    assert medseg_command("models", "check", model).exit_code == 3


def test_a_published_model_shows_its_card_before_its_weights_are_there(tmp_path, monkeypatch):
    """Nobody should download 350 MB, or look for a file, to learn what a model is for and what it cannot do."""
    monkeypatch.setenv("MEDSEG_DATA_DIR", str(tmp_path))
    shown = medseg_command("models", "show", "wmh-unet-3class")
    assert shown.exit_code == 0
    for words in ("limitations:", ".768", "MIT", "medseg models install wmh-unet-3class"):
        assert words in shown.stdout
    document = json.loads(medseg_command("models", "show", "tb-vgg16", "--json").stdout)
    assert document["state"]["state"] == "needs weights" and "Inferred" in str(document["model"]["limitations"])
    refused = medseg_command("run", "ich-resnet50", tmp_path, "-o", tmp_path / "out")
    assert refused.exit_code == 3 and "medseg models show ich-resnet50" in refused.stderr


def test_devices_says_what_truly_runs():
    document = json.loads(medseg_command("devices", "--json").stdout)
    assert next(d for d in document["devices"] if d["id"] == "cpu")["works"]
    assert "onnxruntime" in " ".join(document["versions"])
    assert "works" in medseg_command("devices").stdout


def test_a_fault_is_one_sentence_and_its_traceback_is_in_the_log(model, image, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("medseg.pipeline.run.run", fails)
    done = run_quickly(model, image, "-o", tmp_path / "out")
    log = tmp_path / "data" / "logs" / "medseg.log"
    assert done.exit_code == 1 and "Traceback" not in done.output
    assert "MedSeg itself failed (ZeroDivisionError: a fault of ours)" in done.stderr and str(log) in done.stderr
    assert "Traceback" in log.read_text() and 'raise ZeroDivisionError("a fault of ours")' in log.read_text()
    assert run_quickly(model, image, "-o", tmp_path / "out", "--json").exit_code == 1
    capture = subprocess.run(
        [sys.executable, "-c", "import medseg.pipeline.run as p; p.run = None; import medseg.cli; medseg.cli.main()",
         "run", model, image, "-o", tmp_path / "out", "--debug"],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert capture.returncode == 1 and "Traceback" in capture.stderr


def test_warnings_are_said_once(model, tmp_path):
    bare = write_nifti(tmp_path / "bare.nii", IMAGE)
    done = run_quickly(model, bare, "-o", tmp_path / "out")
    assert done.stderr.count("does not say how it lies") == 1


def test_the_demonstration_runs_a_2d_and_a_3d_model_and_says_where_to_look(tmp_path, monkeypatch):
    """Small drawings here; ``make demo`` draws whole heads."""
    from medseg import phantoms
    from medseg.cli import demonstration
    from medseg.model.store import installed_models

    shown = {c.id for c in installed_models()}
    assert "cmb-compact" in shown and shown & {"ich-compact", "wmh-compact"}, "the shipped models are there"

    def head() -> phantoms.Phantom:
        return phantoms.head_ct(7, size=(96, 96, 6), spacing=(2.4, 2.4, 20), bleeds=["subdural"])

    def swi() -> phantoms.Phantom:
        return phantoms.swi(5, size=(56, 64, 12), spacing=(3, 3, 6), microbleeds=3)

    small = [
        demonstration.Show("ich-compact", "2D", "head CT", head, dicom=True),
        demonstration.Show("cmb-compact", "3D", "SWI", swi),
    ]
    monkeypatch.setattr(demonstration, "shows", lambda: small)
    monkeypatch.setattr("medseg.output.folder.discover_sinks", dict)
    done = medseg_command("demo", "-o", tmp_path / "demo", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "demo" / "ich-compact" / "slices.csv").exists()
    assert (tmp_path / "demo" / "cmb-compact" / "segmentation.seg.nrrd").exists()
    assert "drawn: a bleed in" in done.stdout and "drawn: 3 microbleeds" in done.stdout
    assert "Pictures:" in done.stdout and str(tmp_path / "demo") in done.stdout
    again = medseg_command("demo", "-o", tmp_path / "demo")
    assert again.exit_code == 2 and "--force" in again.stderr
