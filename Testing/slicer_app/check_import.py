"""Models as they are published, through the panel's own forms: folders of every kind, imported and run.

Each import makes an environment with PyTorch (minutes, internet) and removes it again, so these checks only run when
they are asked for by name: ``checks.py import``. The MONAI bundle and the Auto3DSeg model are made with
``MEDSEG_MONAI``, an environment with MONAI, the set of nnU-Net results with ``MEDSEG_NNUNET``, one with nnU-Net.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
import qt
import slicer
from session import Session, true

from support.real_data import REAL_DATA, REPOSITORY

RESULT = REAL_DATA / "nnunet" / "Dataset901_T1"
HEAD = REAL_DATA / "images" / "t1" / "t1_conformed_256.nii.gz"
LONG = 3600


def check_import_nnunet_folder(session: Session) -> str:
    """The given nnU-Net folder: fold 0 is chosen in the form, imported, and gives nnU-Net's own labels of the head."""
    if not RESULT.is_dir():
        return f"left out: {RESULT} is not there"
    with _own_models(session):
        said = _import(session, RESULT, "nnunet", _fold_0)
        id = _newest(session)
        volume = slicer.util.loadVolume(str(HEAD))
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        told = session.run(id, volume, LONG)
        true("Done" in told, told)
        common.picture("import-nnunet-result")
        wanted = slicer.util.arrayFromVolume(slicer.util.loadVolume(str(REAL_DATA / "nnunet" / "labels_fold0.nii.gz")))
        equal = float((session.labels() == wanted).mean())
        true(equal >= 0.9995, f"only {equal:.4%} of the voxels have nnU-Net's label")
    return f"{said} {id}: {equal:.5%} of {wanted.size} voxels have nnU-Net's label"


def check_import_monai_bundle(session: Session) -> str:
    """A MONAI bundle with weights: what it says is shown, it is imported, compared with MONAI, and runs."""
    if not os.environ.get("MEDSEG_MONAI"):
        return "left out: MEDSEG_MONAI names no environment that has MONAI"
    with _own_models(session) as folder:
        bundle = folder / "segresnet-pt"
        _make("MEDSEG_MONAI", "monai_bundles.py", "make", bundle.name, str(bundle))
        return _runs(session, bundle, "monai")


def check_import_auto3dseg_folder(session: Session) -> str:
    """An Auto3DSeg model as SlicerMONAIAuto3DSeg publishes them: imported, compared with MONAI's chain, and runs."""
    if not os.environ.get("MEDSEG_MONAI"):
        return "left out: MEDSEG_MONAI names no environment that has MONAI"
    with _own_models(session) as folder:
        place = folder / "whole-body-small"
        _make("MEDSEG_MONAI", "auto3dseg_models.py", "ct", str(place))
        return _runs(session, place, "auto3dseg")


def check_import_joined_set(session: Session) -> str:
    """Five nnU-Net results are seen to be a set of one recipe, and give what the set's own program gives."""
    if not os.environ.get("MEDSEG_NNUNET"):
        return "left out: MEDSEG_NNUNET names no environment that has nnU-Net"
    recipe = REPOSITORY / "MedSegExtension/Resources/Models/recipes/totalsegmentator-total.json"
    with _own_models(session) as folder:
        _make("MEDSEG_NNUNET", "nnunet_sets.py", str(folder), str(recipe))
        said = _import(session, folder / "parts", "set", lambda dialog: None)
        id = _newest(session)
        volume = slicer.util.loadVolume(str(folder / "ct.nii.gz"))
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        told = session.run(id, volume, LONG)
        true("Done" in told, told)
        common.picture("import-set-result")
        wanted = slicer.util.arrayFromVolume(slicer.util.loadVolume(str(folder / "labels.nii.gz")))
        equal = float((session.labels() == wanted).mean())
        true(len(np.unique(wanted)) > 20, "the set found hardly any class")
        true(equal >= 0.9995, f"only {equal:.4%} of the voxels are as the set's program has them")
    return f"{said} {id}: {equal:.5%} of {wanted.size} voxels equal"


def check_import_raidionics_folder(session: Session) -> str:
    """A Raidionics folder (no PyTorch is needed): its settings are shown, it is imported, and finds what is bright."""
    with _own_models(session) as folder:
        place, script = folder / "MRI_Tumor", Path(__file__).with_name("make_raidionics.py")
        subprocess.run([common.python(), str(script), str(place)], check=True, env=slicer.util.startupEnvironment())
        said = _import(session, place, "raidionics", lambda dialog: None)
        id = _newest(session)
        volume = common.add_volume(common.blob((40, 96, 96)), "image", "MR")
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
        told = session.run(id, volume, LONG)
        true("Done" in told, told)
        common.picture("import-raidionics-result")
        bright = slicer.util.arrayFromVolume(volume) > 500
        share = float((session.labels()[bright] > 0).mean())
        true(share > 0.9, f"only {share:.1%} of the bright voxels were found")
    return f"{said} {id}: {share:.2%} of the bright voxels found"


def _runs(session: Session, folder: Path, name: str) -> str:
    """Import a model of random weights and run it; its labels."""
    said = _import(session, folder, name, lambda dialog: None)
    id = _newest(session)
    told = session.run(id, session.volume((40, 96, 96), "image"), LONG)
    true("Done" in told, told)
    common.picture(f"import-{name}-result")
    found = np.unique(session.labels())
    true(len(found) > 1, "the network found one class only")
    return f"{said} {id}: labels {found.tolist()}"


def _make(variable: str, script: str, *arguments: str) -> None:
    """Run a script of ``Testing/support`` in the environment that ``variable`` names."""
    python = Path(os.environ[variable])
    interpreter = python / "bin" / "python" if python.is_dir() else python
    command = [str(interpreter), str(REPOSITORY / "Testing" / "support" / script), *arguments]
    subprocess.run(command, check=True, env=slicer.util.startupEnvironment())


@contextmanager
def _own_models(session: Session) -> Iterator[Path]:
    """The user's models in a folder that vanishes; the worker is started anew so that it knows of it."""
    folder = Path(tempfile.mkdtemp(prefix="medseg-import-check-"))
    widget, before = session.widget, os.environ.get("MEDSEG_DATA_DIR")
    from medseg_panel.worker import process

    data, variables = str(folder / "data"), process.environment
    os.environ["MEDSEG_DATA_DIR"] = data
    # A worker gets what Slicer was started with.
    process.environment = lambda: variables() | {"MEDSEG_DATA_DIR": data}
    widget.panel.segment._worker.restart()
    try:
        yield folder
    finally:
        process.environment = variables
        if before is None:
            del os.environ["MEDSEG_DATA_DIR"]
        else:
            os.environ["MEDSEG_DATA_DIR"] = before
        widget.panel.segment._worker.restart()
        shutil.rmtree(folder, ignore_errors=True)


def _newest(session: Session) -> str:
    """The id of the model that is chosen after an import."""
    item = session.widget.ui.modelList.currentItem()
    return next(id for id, known in session.panel.model._items.items() if known == item)


def _fold_0(dialog: Any) -> None:
    for field in dialog.findChildren(qt.QLineEdit):
        if field.objectName == "answer_folds":
            field.text = "0"


def _import(session: Session, folder: Path, name: str, fill: Callable[[Any], None]) -> str:
    """The menu's *Import a model folder*, its forms filled by ``fill`` and accepted; pictures; what was said."""
    more = session.panel.more
    more._dialogs.folder = lambda title: str(folder)
    shown: list[str] = []
    timer = qt.QTimer()

    def answer() -> None:
        dialog = slicer.app.activeModalWidget()
        if dialog is None or not hasattr(dialog, "accept"):
            return
        for rows in dialog.findChildren(qt.QTreeWidget):
            rows.setCurrentItem(rows.topLevelItem(0))
        fill(dialog)
        common.picture(f"import-{name}-{len(shown) + 1}", dialog)
        shown.append(str(dialog.windowTitle))
        dialog.accept()

    timer.setInterval(500)
    timer.connect("timeout()", answer)
    timer.start()
    start = time.perf_counter()
    try:
        more.import_folder()
        true(more.busy, "nothing was begun")
        half = common.wait(lambda: not more.busy, 60)
        if not half:
            common.picture(f"import-{name}-running")
        true(common.wait(lambda: not more.busy, LONG), "the import did not end")
    finally:
        timer.stop()
        del more._dialogs.folder
    true(shown, "no form was shown")
    true(not session.errors, "; ".join(session.errors))
    said = str(session.widget.ui.progressLabel.text)
    true("is installed" in said, said)
    return f"{', '.join(shown)}: {said.splitlines()[0]} [{time.perf_counter() - start:.0f} s];"
