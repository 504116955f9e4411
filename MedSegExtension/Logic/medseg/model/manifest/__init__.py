"""Model manifests: the schema (`schema`), the steps it may name (`steps`)."""

from .schema import Manifest, OutputClass

__all__ = ["Manifest", "OutputClass"]
