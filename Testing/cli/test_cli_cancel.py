"""Ctrl-C: a person who gave the wrong file must not wait for a long network call, nor find half a result later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from medseg.cli.interrupt import claimed, interruptible
from medseg.scratch import own_place
from support import tiny_networks
from support.io_samples import write_nifti

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process on Windows")


def slow_network() -> onnx.ModelProto:
    """One matrix product of about 10^12 multiplications: ONNX Runtime cannot be stopped inside it."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "size"], ["big"]),
        helper.make_node("MatMul", ["big", "big"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["one"], keepdims=0),
        helper.make_node("Mul", ["one", "zero"], ["nothing"]),
        helper.make_node("Add", ["x", "nothing"], ["same"]),
        helper.make_node("Concat", ["same", "same"], ["y"], axis=1),
    ]
    weights = {"size": np.array([10000, 10000], np.int64), "zero": np.array(0, np.float32)}
    proto = tiny_networks.model(nodes, {"x": [None, 1, None, None]}, ["y"], weights)
    shape = ["n", 2, "j", "i"]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, shape))
    return proto


def start(code: str, tmp_path: Path, *arguments: object) -> subprocess.Popen[str]:
    for name in ("tmp", "data", "cache"):
        (tmp_path / name).mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "MedSegExtension" / "Logic"), "TMPDIR": str(tmp_path / "tmp"),
        "MEDSEG_DATA_DIR": str(tmp_path / "data"), "MEDSEG_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def interrupt_after(process: subprocess.Popen[str], line: str, delay: float) -> tuple[float, str]:
    """Send SIGINT ``delay`` seconds after ``line`` came; the seconds until the end, and stderr."""
    assert process.stderr is not None
    said = ""
    for text in process.stderr:
        said += text
        if line in text:
            break
    else:
        pytest.fail(f"the process ended without saying {line!r}: {said}")
    time.sleep(delay)
    assert process.poll() is None, "it must still be at work"
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    return time.monotonic() - sent, said + rest


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_inside_a_long_network_call_ends_at_once_and_leaves_nothing(tmp_path, existing):
    """The call would take tens of seconds on two cores; the bound is generous for a loaded machine."""
    model = tmp_path / "model"
    model.mkdir()
    onnx.save(slow_network(), model / "model.onnx")
    manifest = tiny_networks.manifest({"mode": "slicewise", "plane": "axial"}, {})
    (model / "manifest.json").write_text(manifest.model_dump_json(exclude_none=True))
    image = write_nifti(tmp_path / "head.nii", np.arange(4 * 8 * 8, dtype=np.int16).reshape(4, 8, 8), qform_code=1)
    results = tmp_path / "results"
    if existing:
        (results / "out").mkdir(parents=True)
        (results / "out" / "mine.txt").write_text("kept")
    arguments = ("run", model, image, "-o", results / "out", "--device", "cpu")
    process = start("import medseg.cli; medseg.cli.main()", tmp_path, *arguments)
    seconds, said = interrupt_after(process, "running the network", 0.5)
    assert process.returncode == 130 and "cancelled" in said and "Traceback" not in said
    assert seconds < 5
    left = sorted(p.relative_to(results).as_posix() for p in results.rglob("*")) if results.exists() else []
    assert left == (["out", "out/mine.txt"] if existing else [])
    assert list((tmp_path / "tmp").iterdir()) == []


WRITING = """
import sys, time, os
from pathlib import Path
from medseg.cli.execute import execute
from medseg.cli.interrupt import claimed
import tempfile
def body(command):
    with claimed(Path(sys.argv[1]), command.on_abandon):
        stage = Path(sys.argv[1]) / ".medseg-123"
        stage.mkdir()
        (stage / "half.nrrd").write_text("half")
        Path(tempfile.mkdtemp()).joinpath("child.txt").write_text("of a child process")
        print("writing now", file=sys.stderr, flush=True)
        time.sleep(60)  # stands for a native call that knows nothing of cancelling
    return 0
execute(body, as_json=True, debug=False)
"""


@pytest.mark.parametrize("existing", [False, True])
def test_ctrl_c_while_the_result_is_written_removes_what_is_there_of_it(tmp_path, existing):
    target = tmp_path / "deep" / "out"
    if existing:
        target.mkdir(parents=True)
        (target / "mine.txt").write_text("kept")
    process = start(WRITING, tmp_path, target)
    seconds, said = interrupt_after(process, "writing now", 0.2)
    assert process.returncode == 130 and seconds < 5 and "cancelled" in said
    assert [p.name for p in target.iterdir()] == ["mine.txt"] if existing else not (tmp_path / "deep").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_that_answers_in_time_ends_by_itself():
    import threading

    stop = threading.Event()

    def work() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(10)
        return "tidied"

    def never() -> None:
        raise AssertionError("it must not be left behind")

    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a shell
    assert interruptible(work, stop.set, never) == "tidied"
    assert signal.getsignal(signal.SIGINT) is before


def test_errors_of_the_work_are_raised_and_folders_it_made_are_removed(tmp_path):
    from contextlib import nullcontext

    with pytest.raises(ValueError, match="bad"), claimed(tmp_path / "a" / "b", lambda remove: nullcontext()):
        assert (tmp_path / "a" / "b").is_dir()
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []
    before = os.environ.get("TMPDIR")
    with own_place():
        import tempfile

        inside = Path(tempfile.mkdtemp())
        assert os.environ["TMPDIR"] != before
    assert not inside.exists() and os.environ.get("TMPDIR") == before
