"""The process that reads files with ITK for `medseg.io.itk`: a native crash in a reader must not end a whole batch.

One JSON line in, one out: ``{"path", "array"}`` names the file to read and the file for its voxels; the answer is the
image's description, or ``{"error"}`` with ITK's own text. It ends with its input.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import SimpleITK as sitk

_KEYS = ("NRRD_space", "modality", "Modality", "DWMRI_b-value")
_STARTS = ("DWMRI_gradient_", "Segment")


def read(path: str, array_file: str) -> dict[str, object]:
    """Read ``path``, write its voxels to ``array_file`` (C order, axes reversed, components last), describe it."""
    image = sitk.ReadImage(path)
    kind = image.GetPixelIDTypeAsString()
    if "complex" in kind:
        return {"pixel_type": kind}
    array = sitk.GetArrayViewFromImage(image)
    np.ascontiguousarray(array).tofile(array_file)
    keys = [k for k in image.GetMetaDataKeys() if k in _KEYS or k.startswith(_STARTS)]
    return {
        "pixel_type": kind,
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "components": image.GetNumberOfComponentsPerPixel(),
        "size": list(image.GetSize()),
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(image.GetDirection()),
        "metadata": {k: image.GetMetaData(k).encode("utf-8", "replace").decode() for k in keys},
    }


def main() -> None:
    """Answer requests until the input ends. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = read(request["path"], request["array"])
        except (RuntimeError, ValueError) as error:
            answer = {"error": str(error)}
        except MemoryError:
            answer = {"memory": True}
        except OSError as error:
            answer = {"disk": error.strerror or str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
