"""Rigid alignment of two images of one patient (SimpleITK's registration), with a measure of whether it can be

right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from ..errors import InputError
from ..geometry.grid import Grid
from ..geometry.volume import Volume
from ..monitor import Monitor

_SAMPLES = 0.2
_SEED = 1
_SUSPICIOUS_MM, _SUSPICIOUS_DEGREES = 60.0, 30.0
#: Share of the mutual information that may be lost: where the start is right already, the sampling makes a difference.
_LOSS = 0.02


@dataclass(frozen=True, eq=False)
class Alignment:
    """``matrix``: 4x4, LPS mm of the baseline -> LPS mm of the follow-up. ``similarity``: mutual information after, and
    ``before`` as the images lie (greater is better; 0 where they do not overlap). ``translation_mm``,
    ``rotation_degrees``: of the motion about the baseline's centre.
    """

    matrix: npt.NDArray[np.float64]
    similarity: float = 0.0
    before: float = 0.0
    translation_mm: float = 0.0
    rotation_degrees: float = 0.0

    def grid_of(self, grid: Grid) -> Grid:
        """``grid`` of the follow-up as it lies in the baseline's space."""
        return Grid.from_affine(np.linalg.inv(self.matrix) @ grid.affine, grid.size)


IDENTITY = Alignment(np.eye(4))


def align(baseline: Volume, follow_up: Volume, monitor: Monitor | None = None) -> Alignment:
    """The rigid motion that brings ``follow_up`` onto ``baseline``: Mattes' mutual information over three resolutions.

    Always the same for the same images (fixed sampling seed, one thread). ``monitor`` is warned where the result can
    hardly be right. Raises `InputError` where the images cannot be aligned at all.
    """
    monitor = monitor or Monitor()
    fixed, moving = _image(baseline), _image(follow_up)
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.GEOMETRY
    )
    method: Any = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(_SAMPLES, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetGlobalDefaultNumberOfThreads(1)
    method.AddCommand(sitk.sitkIterationEvent, monitor.checkpoint)
    method.SetInitialTransform(start, inPlace=False)
    try:
        began = -float(method.MetricEvaluate(fixed, moving))
        before = _as_they_lie(method, fixed, moving)
        method.SetInitialTransform(start, inPlace=False)
        found = method.Execute(fixed, moving)
    except RuntimeError as error:
        raise InputError(
            f"{follow_up.name} could not be aligned with {baseline.name}: the images hardly overlap, or one is empty. "
            "Give a transform, or align them by hand."
        ) from error
    matrix = _matrix(found)
    centre = baseline.grid.to_physical((np.array(baseline.grid.size) - 1) / 2)
    moved = matrix[:3, :3] @ centre + matrix[:3, 3] - centre
    angle = float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
    result = Alignment(matrix, -float(method.GetMetricValue()), before, float(np.linalg.norm(moved)), angle)
    if result.similarity < (1 - _LOSS) * max(before, began):
        monitor.warn(
            f"Aligning {follow_up.name} with {baseline.name} made them less alike; look at the picture before you "
            "trust it."
        )
    if result.translation_mm > _SUSPICIOUS_MM or angle > _SUSPICIOUS_DEGREES:
        monitor.warn(
            f"{follow_up.name} was moved by {result.translation_mm:.0f} mm and {angle:.0f} degrees to lie on "
            f"{baseline.name}, "
            "which is much; look at the picture before you trust it."
        )
    return result


def _as_they_lie(method: Any, fixed: Any, moving: Any) -> float:
    """Mutual information of two images that nobody moved, 0 where they do not overlap."""
    method.SetInitialTransform(sitk.Euler3DTransform(), inPlace=False)
    try:
        return -float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        return 0.0


def _image(volume: Volume) -> Any:
    """Float image, intensities clipped to the middle 99 %, so that a bright artefact does not fill the histogram."""
    array = np.asarray(volume.require_scalar().array, dtype=np.float32)
    low, high = np.percentile(array, [0.5, 99.5])
    image = sitk.GetImageFromArray(np.clip(array, low, max(high, low + 1e-6)))
    volume.grid.place(image)
    return image


def _matrix(transform: Any) -> npt.NDArray[np.float64]:
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(tuple(row))) - origin for row in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.stack(columns, axis=1), origin
    return matrix
