"""Published models that can be downloaded: what there is, where it comes from, and what must arrive.

>>> from medseg.library.catalogue import install, catalogue_states       # doctest: +SKIP
>>> install("meshnet-gwm-light")                                  # doctest: +SKIP
"""

from __future__ import annotations

from .download import Settings
from .install import Installed, install, remove
from .listing import catalogue_entries, find_entry
from .states import ModelState, catalogue_states, markdown_table
from .transport import DownloadError

__all__ = [
    "DownloadError",
    "Installed",
    "ModelState",
    "Settings",
    "catalogue_entries",
    "catalogue_states",
    "find_entry",
    "install",
    "markdown_table",
    "remove",
]
