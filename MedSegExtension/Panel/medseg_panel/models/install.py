"""The Python packages of the worker: which are missing, which ONNX Runtime suits the machine, and how they get here.

Nothing is installed before the user agreed. Slicer's own numpy, SimpleITK and vtk are pinned by constraints, so that
pip can not replace them, and exactly one ONNX Runtime package is there afterwards, since they share a directory.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from medseg.errors import MedSegError

from ..seams import Dialogs

ORT_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-training",
)
MINIMUM_ORT = (1, 20)
# Never replaced, whatever a package asks for.
PINNED = ("numpy", "SimpleITK", "vtk", "scipy", "pydicom", "slicer-core")
# First driver that carries CUDA 13 and CUDA 12 (NVIDIA's release notes).
CUDA13_DRIVER = 580
CUDA12_DRIVER = 525
# CUDA 13 has no kernels for anything before Turing.
CUDA13_CAPABILITY = 7.5


class InstallError(MedSegError):
    """Packages could not be installed; the sentence says why and what to do."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA card: the driver's version as text, and the compute capability or None where it is not told."""

    driver: str
    capability: float | None = None


class Pip(Protocol):
    """Installs and removes packages in Slicer's Python; raises on failure."""

    def install(self, requirements: Sequence[str], constraints: Path, options: Sequence[str]) -> None: ...

    def uninstall(self, packages: Sequence[str]) -> None: ...


class SlicerPip:
    """`Pip` through ``slicer.packaging`` (5.12 and later: with a progress dialog) or ``slicer.util``."""

    def install(self, requirements: Sequence[str], constraints: Path, options: Sequence[str] = ()) -> None:
        import slicer

        try:
            from slicer import packaging
        except ImportError:
            packaging = None
        # Agreed before; --no-index and --find-links are options of pip that pip_ensure does not take.
        if packaging is not None and not options:
            packaging.pip_ensure(
                list(requirements), constraints=str(constraints), prompt_install=False, prompt_restart=False,
                requester="MedSeg",
            )  # fmt: skip
            return
        with _busy():
            slicer.util.pip_install([*requirements, "--prefer-binary", "-c", str(constraints), *options])

    def uninstall(self, packages: Sequence[str]) -> None:
        import slicer

        for package in packages:
            slicer.util.pip_uninstall(package)


class Installer:
    """`seams.Installer`. ``on_installed`` is called after packages changed (the worker must start anew).

    ``version_of(name)``: the installed version or None. ``find_gpu()``: the NVIDIA card or None. ``question``: what the
    user is asked in place of the usual sentence, where these packages are an offer.
    """

    def __init__(
        self,
        requirements: Path,
        pip: Pip,
        dialogs: Dialogs,
        log: Callable[[str], None],
        on_installed: Callable[[], None],
        *,
        version_of: Callable[[str], str | None] | None = None,
        find_gpu: Callable[[], Gpu | None] | None = None,
        system: str | None = None,
        question: str = "",
    ) -> None:
        self._requirements, self._pip, self._dialogs = requirements, pip, dialogs
        self._log, self._on_installed = log, on_installed
        self._version_of = version_of or installed_version
        self._find_gpu = find_gpu or nvidia_gpu
        self._system = system or platform.system()
        self._told_of_gpu = False
        self._question = question

    def satisfied(self) -> bool:
        """True where nothing is missing and nothing is in the way."""
        return self.plan() == ([], [])

    def ensure(self) -> bool:
        """Install what is missing, with the user's consent. False where the user declined.

        Raises `InstallError` where pip failed.
        """
        wanted, unwanted = self.plan()
        if not wanted and not unwanted:
            self._tell_of_gpu()
            return True
        question = self._question or _(
            "MedSeg needs {count} more Python package(s). Install now? This needs the internet."
        ).format(count=len(wanted))
        if unwanted:
            question += " " + _("{packages} will be removed, since only one ONNX Runtime works at a time.").format(
                packages=", ".join(unwanted)
            )
        if not self._dialogs.confirm(question, "\n".join(wanted)):
            self._log(
                _("Nothing was installed; all runs as before.")
                if self._question
                else _(
                    "Nothing was installed, so nothing can run. Press Apply again, or install from a folder of wheels."
                )
            )
            return False
        self._install(wanted, unwanted, ())
        return True

    def ensure_from(self, folder: str) -> None:
        """Install what is missing from the wheels in ``folder``, without the internet.

        Raises `InstallError` where a wheel is missing or does not fit.
        """
        wanted, unwanted = self.plan()
        if not wanted:
            self._log(_("All packages are installed already."))
            return
        if not any(Path(folder).glob("*.whl")):
            raise InstallError(
                _("There are no wheels (.whl files) in {folder}. On a computer with internet run: {command}").format(
                    folder=Path(folder).name, command="pip download -d FOLDER " + " ".join(f'"{w}"' for w in wanted)
                )
            )
        self._install(wanted, unwanted, ("--no-index", "--find-links", folder))

    def plan(self) -> tuple[list[str], list[str]]:
        """What has to be installed, and which ONNX Runtime packages have to go first."""
        lines = self._requirements.read_text("utf-8").splitlines()
        wanted = [r for r in (line.split("#")[0].strip() for line in lines) if r and not self._satisfied(r)]
        present = [p for p in ORT_PACKAGES if self._version_of(p)]
        gpu = self._find_gpu() if len(present) != 1 else None
        if len(present) == 1 and numbers(self._version_of(present[0]) or "") >= MINIMUM_ORT:
            return wanted, []
        return [*wanted, ort_requirement(self._system, gpu)], present

    def _tell_of_gpu(self) -> None:
        """Once: a GPU that the installed ONNX Runtime cannot use."""
        told, self._told_of_gpu = self._told_of_gpu, True
        present = [p for p in ORT_PACKAGES if self._version_of(p)]
        if told or present != ["onnxruntime"]:
            return
        suits = ort_requirement(self._system, self._find_gpu())
        if not suits.startswith("onnxruntime>"):
            self._log(
                _(
                    "There is an NVIDIA GPU, but the installed onnxruntime uses the CPU only. To use it, remove that "
                    "(slicer.util.pip_uninstall('onnxruntime') in the Python console) and press Apply: {package} is "
                    "then offered."
                ).format(package=suits)
            )

    def _satisfied(self, requirement: str) -> bool:
        name, _sign, least = requirement.partition(">=")
        version = self._version_of(name.strip())
        if version is None:
            # Packages that were built with Slicer may be there without pip's metadata; they must not be replaced.
            return name.strip() in PINNED and importlib.util.find_spec(name.strip()) is not None
        return numbers(version) >= numbers(least)

    def _install(self, wanted: list[str], unwanted: list[str], options: Sequence[str]) -> None:
        self._log(_("Installing: {packages}").format(packages=", ".join(wanted)))
        try:
            if unwanted:
                self._pip.uninstall(unwanted)
            with self._constraints() as constraints:
                self._pip.install(wanted, constraints, options)
        except Exception as error:  # pip's failures come as CalledProcessError, RuntimeError or OSError
            raise InstallError(
                _("The Python packages could not be installed ({error}). The Python console says more; {hint}").format(
                    error=str(error)[:300],
                    hint=_("without internet, press Install from folder in the Run section (a folder of wheels)."),
                )
            ) from error
        importlib.invalidate_caches()
        self._on_installed()
        missing, _packages = self.plan()
        if missing:
            raise InstallError(
                _("After the installation these packages are still missing: {packages}.").format(
                    packages=", ".join(missing)
                )
            )
        self._log(_("The packages are installed."))

    @contextmanager
    def _constraints(self) -> Any:
        """A constraints file with the versions that must stay."""
        pins = [f"{name}=={version}" for name in PINNED if (version := self._version_of(name))]
        with tempfile.TemporaryDirectory(prefix="medseg_") as folder:
            path = Path(folder) / "constraints.txt"
            path.write_text("\n".join(pins) + "\n", "utf-8")
            yield path


def ort_requirement(system: str, gpu: Gpu | None) -> str:
    """The one ONNX Runtime package for this machine; ``system`` as `platform.system` says it."""
    if gpu is None or system == "Darwin":
        return "onnxruntime>=1.20"
    driver = numbers(gpu.driver)
    modern = gpu.capability is None or gpu.capability >= CUDA13_CAPABILITY
    if driver >= (CUDA13_DRIVER,) and modern:
        return "onnxruntime-gpu[cuda,cudnn]>=1.28"
    if driver >= (CUDA12_DRIVER,):
        return "onnxruntime-gpu[cuda,cudnn]>=1.21,<1.27"
    return "onnxruntime>=1.20"


def nvidia_gpu() -> Gpu | None:
    """The first NVIDIA card that ``nvidia-smi`` reports, or None."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    for fields in ("driver_version,compute_cap", "driver_version"):
        command = [program, f"--query-gpu={fields}", "--format=csv,noheader"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=15,
                check=False,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        lines = done.stdout.strip().splitlines()
        if done.returncode == 0 and lines:
            driver, _comma, capability = lines[0].partition(",")
            try:
                return Gpu(driver.strip(), float(capability))
            except ValueError:
                return Gpu(driver.strip())
    return None


def installed_version(name: str) -> str | None:
    """The installed version of a distribution, read without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparison: ``1.20.1rc2`` is (1, 20, 1)."""
    found = re.match(r"\s*\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


@contextmanager
def _busy() -> Any:
    import qt

    qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.BusyCursor))
    try:
        yield
    finally:
        qt.QApplication.restoreOverrideCursor()
