"""A real Triton: what the protocol's stand-in of the other tests cannot show. Skipped by name where there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg import phantoms, run
from medseg.engine.server import Server, ServerDown, network_name
from medseg.library.triton import export_triton
from medseg.model.package import Model, load_model
from medseg.monitor import Monitor
from support.remote_samples import named_volume, tiny_model
from support.triton_server import Triton

pytest.importorskip("tritonclient.http", reason="tritonclient is not installed (pip install 'medseg[server]')")
pytestmark = [pytest.mark.triton, pytest.mark.xdist_group("triton")]

#: No answer of a network that small takes so long, however busy the machine is.
PATIENCE = 60.0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def repository(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for model in (tiny, load_model("ich-compact")):
        export_triton(model, folder, backend=Triton().backend)
    return folder


@pytest.fixture
def address(repository: Path, tmp_path: Path) -> Iterator[tuple[Triton, str]]:
    triton = Triton()
    yield triton, triton.start(repository, tmp_path / "triton.log")
    triton.kill()


@pytest.mark.parametrize("compress", ["off", "on"])
def test_what_a_real_server_answers_is_what_this_computer_does(
    address: tuple[Triton, str], tiny: Model, compress: Any
) -> None:
    chosen = Server(address[1], compress=compress, timeout=PATIENCE)
    here, there = run(tiny, named_volume(), device="cpu"), run(tiny, named_volume(), server=chosen)
    assert there.provenance["provider"].startswith("remote (KServe v2, triton")
    assert not [w for w in there.warnings if "weights" in w]  # Triton tells the hash, and it is compared
    assert np.array_equal(here.layers[0].labels, there.layers[0].labels) and here.layers[0].labels.any()
    model, head = load_model("ich-compact"), phantoms.head_ct(7, size=(160, 160, 10), spacing=(1.44, 1.44, 15.0)).volume
    one = run(model, head, device="cpu").tables["slices"]
    other = run(model, head, server=chosen).tables["slices"]
    for column in (c.name for c in one.columns if c.type == "float"):
        np.testing.assert_allclose(one.column(column), other.column(column), atol=1e-5)


@pytest.mark.parametrize("rule", ["error", "local"])
def test_a_real_server_that_is_killed_mid_run(address: tuple[Triton, str], tiny: Model, rule: Any) -> None:
    triton, url = address
    killed = threading.Event()

    def heard(event: Any) -> None:
        if event.kind == "progress" and event.stage == "infer" and (event.fraction or 0) > 0.1 and not killed.is_set():
            killed.set()
            triton.kill()

    monitor = Monitor(heard)
    chosen = Server(url, fallback=rule, retries=1, timeout=PATIENCE)
    if rule == "error":
        with pytest.raises(ServerDown, match="cannot be reached"):
            run(tiny, named_volume(), server=chosen, monitor=monitor)
    else:
        result = run(tiny, named_volume(), device="cpu", server=chosen, monitor=monitor)
        assert any("This computer goes on" in w for w in result.warnings)
        here = run(tiny, named_volume(), device="cpu")
        assert np.array_equal(result.layers[0].labels, here.layers[0].labels)
    assert killed.is_set()


def test_a_network_that_was_not_exported_is_named_with_what_to_do(
    address: tuple[Triton, str], repository: Path
) -> None:
    model = load_model("lungs-compact")
    assert not (repository / network_name(model)).exists()
    with pytest.raises(Exception, match="medseg models export lungs-compact"):
        run(model, phantoms.chest_xray(1).volume, server=Server(address[1]))
