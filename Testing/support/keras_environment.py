"""A Python with TensorFlow for tests of the Keras importer. It is made once; without it these tests fail, never skip.

``MEDSEG_KERAS_ENVIRONMENT`` names one that is there already; else ``.venv-keras`` beside ``.venv`` is used,
made by the importer's own code when it is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.library.importer import environment as env
from medseg.library.importer import from_keras
from medseg.monitor import Monitor

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = Path(__file__).resolve().with_name("architectures.py")


def keras_python() -> Path:
    """The interpreter."""
    named = os.environ.get("MEDSEG_KERAS_ENVIRONMENT")
    folder = Path(named) if named else ROOT / ".venv-keras"
    stamp = folder / ".complete"
    if named is None and not stamp.is_file():
        with _alone(ROOT / ".venv-keras.lock"):
            if not stamp.is_file():
                shutil.rmtree(folder, ignore_errors=True)
                env.make_environment(folder, env.HERE / from_keras.REQUIREMENTS, None, Monitor())
                stamp.touch()
    return env.given_environment(folder, from_keras.MODULES)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Inside, no other test process makes the environment (tests run in several processes)."""
    with lock.open("w") as file:
        if os.name == "posix":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(folder: Path, *ids: str, small: bool = False, weights_only: bool = False) -> dict[str, int]:
    """Build and save the architectures ``ids``; parameters by id."""
    command = [str(keras_python()), "-I", str(ARCHITECTURES), str(folder), *ids]
    command += ["--small"] * small + ["--weights-only"] * weights_only
    done = subprocess.run(command, capture_output=True, text=True, env=env.clean_environment(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {id: json.loads((folder / f"{id}.json").read_text())["parameters"] for id in ids}
