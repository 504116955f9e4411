"""A catalogue file: which models can be downloaded, from where, and what must arrive.

.. code-block:: json

    {"medseg_catalogue": 1, "title": "Models of our group", "entries": [{
        "id": "liver-unet", "title": "Liver, CT", "system": "liver", "task": "segmentation", "kind": "package",
        "license": "MIT", "source": "https://example.org/liver",
        "files": [{"name": "liver-unet.zip", "addresses": ["https://example.org/liver-unet.zip"],
                   "sha256": "...64 hexadecimal digits...", "size": 1234567}]}]}

A catalogue is data: it says what to fetch and which recipe reads it; it holds no code. ``--catalogue FILE`` and the
environment variable ``MEDSEG_CATALOGUE`` (files, separated as in PATH) add catalogues to the one shipped with MedSeg.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ...errors import ModelError
from ...model.manifest.schema import Part
from ...model.package_files import safe_name

Kind = Literal["package", "onnx", "keras", "tfjs", "torch", "nnunet"]
# Above every published model; a server that sends more is not sending a model.
SIZE_LIMIT = 4 << 30


class CatalogueFile(Part):
    """One file of an entry.

    ``name``: the relative name that it gets here. ``addresses``: http(s), tried in this order. ``sha256``: null where
    nobody states it; then the hash of the first download is shown and remembered, and any other is refused later.
    ``size``: exact bytes, null where unknown. ``limit``: more bytes than this are never taken. ``path``: where the file
    lies in a copy of its source, for installing from a folder.
    """

    name: str
    addresses: list[str] = Field(min_length=1)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    size: int | None = Field(default=None, ge=1)
    limit: int = Field(default=SIZE_LIMIT, ge=1)
    path: str = ""

    @field_validator("name", "path")
    @classmethod
    def _plain(cls, value: str) -> str:
        if value:
            try:
                safe_name(value, "catalogue")
            except ModelError as error:
                raise ValueError(f"{value!r} is not a plain relative path") from error
        return value

    @field_validator("name")
    @classmethod
    def _own_name(cls, value: str) -> str:
        if not value or value.endswith((".part", ".part.json", ".lock")):
            raise ValueError(f"{value!r} cannot be the name of a finished download")
        return value

    @field_validator("addresses")
    @classmethod
    def _web(cls, value: list[str]) -> list[str]:
        for address in value:
            try:
                parts = urlsplit(address)
                web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
            except ValueError:
                web = False
            if not web or any(ord(c) <= 32 for c in address):
                raise ValueError(f"{address[:200]!r} is not a plain http or https address")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CatalogueFile:
        if self.size is not None and self.size > self.limit:
            raise ValueError(f"size {self.size} is above limit {self.limit}")
        return self


class Entry(Part):
    """One model that can be downloaded.

    ``kind``: ``package`` is a ready MedSeg package (.zip, or .onnx with the manifest inside); the others are read by
    the importer with ``recipe``. ``files``: the first is the one that is opened; for ``nnunet`` the folder of all.
    ``options``: choices of the recipe. ``about``: the size in words where ``files`` do not state it. ``note``: what the
    user should know before.
    """

    id: str = Field(pattern="^[a-z0-9][a-z0-9._-]*$", max_length=100)
    title: str = Field(min_length=1)
    system: str
    task: Literal["segmentation", "classification"]
    kind: Kind
    recipe: str | None = None
    files: list[CatalogueFile] = Field(min_length=1, max_length=100)
    license: str = Field(min_length=1)
    source: str = Field(min_length=1)
    revision: str = ""
    about: str = ""
    note: str = ""
    options: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Entry:
        if (self.recipe is None) != (self.kind == "package"):
            raise ValueError(f"recipe: {'needed for' if self.recipe is None else 'not used by'} the kind {self.kind}")
        names = [f.name.lower() for f in self.files]
        if len(set(names)) != len(names):
            raise ValueError("files: two have the same name")
        if self.kind == "tfjs" and not names[0].endswith(".json"):
            raise ValueError("files[0]: the first file of a tfjs model is its model.json")
        return self

    @property
    def size(self) -> int | None:
        """Bytes of all files, None where not all are stated."""
        sizes = [f.size for f in self.files]
        return None if None in sizes else sum(s for s in sizes if s is not None)


class Catalogue(Part):
    """A catalogue file."""

    medseg_catalogue: Literal[1]
    title: str = ""
    entries: list[Entry]

    @model_validator(mode="after")
    def _unique(self) -> Catalogue:
        ids = [e.id for e in self.entries]
        for id in ids:
            if ids.count(id) > 1:
                raise ValueError(f"entries: two have the id {id}")
        return self
