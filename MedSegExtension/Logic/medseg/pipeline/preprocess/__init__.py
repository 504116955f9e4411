"""From volumes to the network's input: spatial steps, intensity steps, in the order of the manifest."""

from .run_steps import prepare
from .state import Prepared

__all__ = ["Prepared", "prepare"]
