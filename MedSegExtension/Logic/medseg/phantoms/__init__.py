"""Synthetic volumes with known truth: head CT with bleeds, FLAIR with lesions, SWI with microbleeds, chest X-ray.

They serve demonstrations, tests and the training of the small models that are shipped; they are drawings, not
simulations, and no substitute for patients. Each is a function of its seed and parameters alone.

>>> from medseg.phantoms import flair
>>> flair(seed=1, size=(64, 64, 8)).labels.shape
(8, 64, 64)
"""

from .chest import chest_xray
from .ct import HAEMORRHAGES, head_ct
from .dicom import write_dicom_series
from .mr import flair, swi
from .phantom import Phantom

__all__ = ["HAEMORRHAGES", "Phantom", "chest_xray", "flair", "head_ct", "swi", "write_dicom_series"]
