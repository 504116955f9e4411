"""Packages for the worker: the right ONNX Runtime, exactly one, with consent, and never Slicer's own numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from qt_host.fixtures import FakeDialogs, FakeInstaller, host  # noqa: F401

# ruff: noqa: F811  (fixtures are arguments)

REQUIREMENTS = Path(__file__).resolve().parents[2] / "MedSegExtension" / "Resources"
SLICER = {"numpy": "2.4.6", "SimpleITK": "2.5.5", "scipy": "1.17.1", "pydicom": "3.0.1"}


class FakePip:
    """Installs into a dictionary; ``broken`` makes it fail."""

    def __init__(self, installed: dict[str, str], broken: str = "") -> None:
        self.installed, self.broken = installed, broken
        self.calls: list[tuple[list[str], str, list[str]]] = []
        self.removed: list[str] = []

    def install(self, requirements: Sequence[str], constraints: Path, options: Sequence[str]) -> None:
        self.calls.append((list(requirements), constraints.read_text(), list(options)))
        if self.broken:
            raise RuntimeError(self.broken)
        for requirement in requirements:
            self.installed[requirement.split(">=")[0].split("[")[0]] = "99.0"

    def uninstall(self, packages: Sequence[str]) -> None:
        self.removed += packages
        for package in packages:
            self.installed.pop(package, None)


def make(host: Any, tmp_path: Path, installed: dict[str, str], gpu: Any = None, **changes: Any) -> Any:
    """An installer over ``installed``, with its pip, dialogs and log as attributes."""
    from medseg_panel.models.install import Installer

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# comment\nonnx>=1.17\npydantic>=2.8\nscipy>=1.13\n")
    pip = changes.pop("pip", None) or FakePip(installed)
    dialogs, log, restarts = FakeDialogs(agrees=changes.pop("agrees", True)), [], []
    installer = Installer(
        requirements, pip, dialogs, log.append, lambda: restarts.append(1),
        version_of=installed.get, find_gpu=lambda: gpu, system=changes.pop("system", "Linux"),
        question=changes.pop("question", ""),
    )  # fmt: skip
    installer.pip, installer.dialogs, installer.log, installer.restarts = pip, dialogs, log, restarts
    return installer


class TestOnnxRuntimeForTheMachine:
    @pytest.mark.parametrize(
        ("system", "driver", "capability", "expected"),
        [
            ("Linux", None, None, "onnxruntime>=1.20"),
            ("Darwin", None, None, "onnxruntime>=1.20"),
            ("Linux", "580.65.06", 8.9, "onnxruntime-gpu[cuda,cudnn]>=1.28"),
            ("Windows", "581.15", None, "onnxruntime-gpu[cuda,cudnn]>=1.28"),
            ("Linux", "580.65.06", 7.0, "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"),
            ("Linux", "550.54.14", 8.6, "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"),
            ("Linux", "470.82.01", 8.6, "onnxruntime>=1.20"),
        ],
    )
    def test_table_of_the_conventions(
        self, host: Any, system: str, driver: str | None, capability: float | None, expected: str
    ) -> None:
        from medseg_panel.models.install import Gpu, ort_requirement

        assert ort_requirement(system, Gpu(driver, capability) if driver else None) == expected


class TestEnsure:
    def test_nothing_is_asked_where_all_is_there(self, host: Any, tmp_path: Path) -> None:
        there = {**SLICER, "onnx": "1.20", "pydantic": "2.9", "onnxruntime": "1.23.0"}
        installer = make(host, tmp_path, there)
        assert installer.ensure() and installer.dialogs.questions == [] and installer.pip.calls == []

    def test_gpu_that_lies_idle_is_told_once(self, host: Any, tmp_path: Path) -> None:
        from medseg_panel.models.install import Gpu

        there = {**SLICER, "onnx": "1.20", "pydantic": "2.9", "onnxruntime": "1.23.0"}
        installer = make(host, tmp_path, there, gpu=Gpu("580.1", 8.9))
        assert installer.ensure() and installer.ensure()
        assert len(installer.log) == 1 and "onnxruntime-gpu[cuda,cudnn]>=1.28" in installer.log[0]

    def test_missing_packages_are_installed_after_consent(self, host: Any, tmp_path: Path) -> None:
        installer = make(host, tmp_path, dict(SLICER))
        assert installer.ensure()
        ((wanted, constraints, options),) = installer.pip.calls
        assert wanted == ["onnx>=1.17", "pydantic>=2.8", "onnxruntime>=1.20"] and options == []
        assert "onnxruntime" in installer.dialogs.questions[0]
        assert set(constraints.split()) == {f"{n}=={v}" for n, v in SLICER.items()}
        assert installer.restarts == [1]

    def test_declined_installs_nothing_and_says_so(self, host: Any, tmp_path: Path) -> None:
        installer = make(host, tmp_path, dict(SLICER), agrees=False)
        assert not installer.ensure()
        assert installer.pip.calls == [] and "Nothing was installed" in installer.log[-1]

    def test_two_runtimes_become_one(self, host: Any, tmp_path: Path) -> None:
        """Both share a directory: with both installed, whichever came last is loaded and the other is broken."""
        from medseg_panel.models.install import Gpu

        there = {**SLICER, "onnx": "1.20", "pydantic": "2.9", "onnxruntime": "1.23.0", "onnxruntime-gpu": "1.22.0"}
        installer = make(host, tmp_path, there, gpu=Gpu("550.54", 8.6))
        assert installer.ensure()
        assert installer.pip.removed == ["onnxruntime", "onnxruntime-gpu"]
        assert [p for p in there if p.startswith("onnxruntime")] == ["onnxruntime-gpu"]

    def test_too_old_runtime_is_replaced(self, host: Any, tmp_path: Path) -> None:
        there = {**SLICER, "onnx": "1.20", "pydantic": "2.9", "onnxruntime": "1.16.3"}
        installer = make(host, tmp_path, there)
        assert installer.ensure()
        assert installer.pip.removed == ["onnxruntime"] and there["onnxruntime"] == "99.0"

    def test_failure_is_told_with_a_way_out(self, host: Any, tmp_path: Path) -> None:
        from medseg_panel.models.install import InstallError

        there = dict(SLICER)
        installer = make(host, tmp_path, there, pip=FakePip(there, "Command returned exit status 1"))
        with pytest.raises(InstallError, match=r"exit status 1.*folder of wheels"):
            installer.ensure()

    def test_installation_that_brought_nothing_is_an_error(self, host: Any, tmp_path: Path) -> None:
        """Slicer skips installations under --testing without a word."""
        from medseg_panel.models.install import InstallError

        class Lazy(FakePip):
            def install(self, requirements: Sequence[str], constraints: Path, options: Sequence[str]) -> None:
                return

        there = dict(SLICER)
        with pytest.raises(InstallError, match="still missing: onnx"):
            make(host, tmp_path, there, pip=Lazy(there)).ensure()


class TestOffline:
    def test_wheels_of_a_folder_without_the_internet(self, host: Any, tmp_path: Path) -> None:
        folder = tmp_path / "wheels"
        folder.mkdir()
        (folder / "onnx-1.20-py3-none-any.whl").touch()
        installer = make(host, tmp_path, dict(SLICER))
        installer.ensure_from(str(folder))
        assert installer.pip.calls[0][2] == ["--no-index", "--find-links", str(folder)]

    def test_folder_without_wheels_says_how_to_fill_it(self, host: Any, tmp_path: Path) -> None:
        from medseg_panel.models.install import InstallError

        with pytest.raises(InstallError, match=r"pip download .*onnxruntime"):
            make(host, tmp_path, dict(SLICER)).ensure_from(str(tmp_path))


class TestSlicerPip:
    """Slicer 5.12 and later have slicer.packaging, 5.10 has not."""

    def test_uses_pip_ensure_where_it_exists(self, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import sys
        import types

        import slicer

        from medseg_panel.models.install import SlicerPip

        calls: list[tuple[Any, ...]] = []
        packaging = types.ModuleType("slicer.packaging")
        packaging.pip_ensure = lambda reqs, **kw: calls.append((reqs, kw))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
        monkeypatch.setattr(slicer, "packaging", packaging, raising=False)
        SlicerPip().install(["onnx>=1.17"], tmp_path / "c.txt", ())
        ((requirements, options),) = calls
        assert requirements == ["onnx>=1.17"]
        assert options["constraints"] == str(tmp_path / "c.txt") and options["requester"] == "MedSeg"

    def test_falls_back_to_pip_install(self, host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import slicer

        from medseg_panel.models.install import SlicerPip

        calls: list[list[str]] = []
        monkeypatch.setattr(slicer.util, "pip_install", calls.append)
        SlicerPip().install(["onnx>=1.17"], tmp_path / "c.txt", ("--no-index", "--find-links", "w"))
        assert calls == [
            ["onnx>=1.17", "--prefer-binary", "-c", str(tmp_path / "c.txt"), "--no-index", "--find-links", "w"]
        ]


def test_slicers_own_packages_are_never_replaced(host: Any, tmp_path: Path, repository: Path) -> None:
    """A bundled SimpleITK or numpy that pip replaces breaks other modules until Slicer is installed anew."""
    from medseg_panel.models.install import Installer

    old = {"numpy": "1.0", "SimpleITK": "1.0", "scipy": "1.0", "pydicom": "1.0"}
    installer = Installer(
        repository / "MedSegExtension/Resources/requirements.txt", FakePip(old), FakeDialogs(), print, print,
        version_of=old.get, find_gpu=lambda: None, system="Linux",
    )  # fmt: skip
    wanted, unwanted = installer.plan()
    names = {w.split(">=")[0] for w in wanted}
    assert names == {"onnx", "pydantic", "onnxruntime"} and unwanted == []


class Told:
    """What shows what a run said."""

    def __init__(self) -> None:
        self.messages = self
        self.details: list[str] = []
        self.offers: list[str] = []

    def detail(self, sentence: str) -> None:
        self.details.append(sentence)

    def offer(self, name: str, *rest: Any) -> None:
        self.offers.append(name)


class TestOpenVinoIsAnOffer:
    """It makes runs faster; a user who does not want it must be able to go on without."""

    def test_the_user_is_asked_in_its_own_words_and_may_decline(self, host: Any, tmp_path: Path) -> None:
        there = {**SLICER, "onnxruntime": "1.24"}
        installer = make(host, tmp_path, there, agrees=False, question="OpenVINO is faster. Install it?")
        assert not installer.ensure()
        assert installer.dialogs.questions[0].startswith("OpenVINO is faster. Install it?")
        assert installer.pip.calls == [] and installer.log == ["Nothing was installed; all runs as before."]

    def test_the_shipped_requirement_is_openvino_beside_any_onnx_runtime(self, host: Any) -> None:
        from medseg_panel.models.install import ORT_PACKAGES

        lines = (REQUIREMENTS / "requirements-openvino.txt").read_text().splitlines()
        wanted = [line for line in lines if line and not line.startswith("#")]
        assert [w.partition(">=")[0] for w in wanted] == ["openvino"] and not {"openvino"} & set(ORT_PACKAGES)

    def test_the_panel_says_why_onnx_runtime_ran_a_network(self, host: Any) -> None:
        import qt

        from medseg_panel.collaborators import Collaborators
        from medseg_panel.models.packages import PackagesMenu

        offer, said = FakeInstaller(), []
        others = Collaborators(None, None, FakeDialogs(), lambda log: offer, openvino_installer=lambda log: offer)
        packages = PackagesMenu(qt.QMenu(), others, FakeInstaller(), said.append, said.append)
        run = {"provider": "CPUExecutionProvider", "parameters": {"precision": "auto"}}
        assert "menu Manage models" in packages.engine_hint(run)
        told = Told()
        packages.tell_engine(run, told)
        packages.tell_engine({**run, "parameters": {"precision": "float32"}}, told)
        assert told.offers == ["openvino"] and "exact" in told.details[1], "no offer where exact results are asked for"
        assert "exact" in packages.engine_hint({**run, "parameters": {"precision": "float32"}})
        assert packages.engine_hint({**run, "provider": "OpenVINO 2026"}) == ""
        offer.warm = True  # OpenVINO is there: the run itself tells how the two compared
        assert packages.engine_hint(run) == ""
        packages.install_openvino()
        assert "OpenVINO is installed" in said[-1]
