"""Which mask belongs to which image, by the names of files and folders; nothing is guessed where names allow several.

Understood are words that say mask or label at either end of a name, folders of images and of masks (nnU-Net's too, with
its channels ``_0000``), BIDS entities, and patterns that a user gives, in which ``*`` is what both have in common.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError

SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm")
_WORDS = "seg|segmentation|dseg|mask|masks|label|labels|label-[A-Za-z0-9]+|lesion|lesions|labelmap|gt|annotation|roi"
_AT_END = re.compile(rf"(^|[ _.-]+)({_WORDS})$", re.I)
_AT_START = re.compile(r"^(seg|segmentation|mask|label|labels|labelmap|gt|roi)[ _.-]+", re.I)
#: Words that say which kind of image it is; left out when a mask looks for its image.
_KIND = re.compile(
    r"(^|[ _.-]+)(flair|t1w|t2w|t1|t2|t1ce|t1c|t1gd|pd|ct|mr|swi|image|img|scan|volume|bold|dwi|0000)$", re.I
)
_ENTITY = re.compile(r"_(space|desc|res|label|den|hemi)-[A-Za-z0-9]+")
_SPACE = re.compile(r"_space-([A-Za-z0-9]+)")
_CHANNEL = re.compile(r"^(.+)_(\d{4})$")
_MASK_FOLDER = re.compile(
    r"^(masks?|labels?|labels(tr|ts|val)|seg|segs|segmentations?|gt|ground[ _-]?truths?|annotations?|delineations?)$",
    re.I,
)


@dataclass
class Pairs:
    """``pairs``: (image, mask), one of them None where there is no partner. ``told``: sentences for the reader.

    ``unsure``: masks that fit several images, and how many names each is ambiguous between is told.
    """

    pairs: list[tuple[Path | None, Path | None]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    unsure: list[Path] = field(default_factory=list)


def stem_of(path: Path) -> str:
    """The name without its suffix; of a folder its name."""
    low = path.name.lower()
    found = next((path.name[: -len(s)] for s in SUFFIXES if low.endswith(s)), None)
    return path.name if found is None else found


def key_of(stem: str) -> str:
    """What the names of an image and of its mask have in common."""
    key = _ENTITY.sub("", _bare(_ENTITY.sub("", stem)))
    return _KIND.sub("", key).casefold()


def _bare(stem: str) -> str:
    """The name without all words that say mask."""
    while (less := _AT_START.sub("", _AT_END.sub("", stem))) != stem:
        stem = less
    return stem


def is_mask(path: Path, folder: Path) -> bool:
    """Whether the name of a file, or of a folder that it is in below ``folder``, says that it is a mask."""
    stem = stem_of(path)
    if path.name.lower().endswith(".seg.nrrd") or _AT_END.search(stem) or _AT_START.search(stem):
        return True
    return any(_MASK_FOLDER.match(part) for part in path.relative_to(folder).parts[:-1])


# -- patterns ---------------------------------------------------------------------------------------------------


class Pattern:
    """A pattern of names without suffix, ``*_lesion`` or ``labels/*``; `caught` is what ``*`` stands for."""

    def __init__(self, text: str) -> None:
        """Raises `InputError` for an empty pattern."""
        self.text = text.strip().strip("/").replace("\\", "/")
        if not self.text:
            raise InputError("A pattern of names is empty; write for example *_mask.")
        # A suffix that was typed along counts for nothing: names are held against it without theirs.
        low = self.text.lower()
        bare = next((self.text[: -len(s)] for s in SUFFIXES if low.endswith(s)), self.text)
        parts = [re.escape(part) for part in bare.split("*")]
        self._names = re.compile("(.*)".join(parts) + "$", re.I)
        self._deep = "/" in bare

    def caught(self, path: Path, folder: Path) -> str | None:
        """What ``*`` stands for in the name of ``path``; None where the name is not of this pattern."""
        name = stem_of(path)
        if self._deep:
            above = path.relative_to(folder).parent.as_posix()
            name = f"{above}/{name}" if above != "." else name
            match = next(filter(None, (self._names.match(tail) for tail in _tails(name))), None)
        else:
            match = self._names.match(name)
        return None if match is None else "/".join(match.groups()).rpartition("/")[2].casefold()


def _tails(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[n:]) for n in range(len(parts))]


# -- pairs ------------------------------------------------------------------------------------------------------


def pair(
    files: Sequence[Path], folder: Path, series: Sequence[Path] = (), *, images: str = "", masks: str = ""
) -> Pairs:
    """The images and masks among ``files`` (and ``series``, folders of DICOM images) below ``folder``.

    ``images``, ``masks``: patterns of their names, "" where names are to speak for themselves. Raises `InputError`
    where no file is of a pattern.
    """
    found = Pairs()
    keys: dict[Path, str] = {}
    of_images = _of_pattern(images, [*files, *series], folder, keys)
    of_masks = _of_pattern(masks, files, folder, keys)
    if of_masks is None:
        of_masks = [p for p in files if is_mask(p, folder) and (of_images is None or p not in set(of_images))]
    taken = set(of_masks)
    if of_images is None:
        of_images = [
            p for p in [*files, *series] if p not in taken and not (masks and p.is_file() and is_mask(p, folder))
        ]
    of_images = [p for p in of_images if p not in taken]
    if images or masks:
        known = {*of_images, *of_masks}
        if left := [p for p in [*files, *series] if p not in known]:
            found.told.append(f"{len(left)} files of {folder.name} are of neither pattern and were left out.")
    of_images = _first_channels(of_images, found)
    _Matcher(of_images, folder, keys).match(of_masks, found)
    return found


def _of_pattern(text: str, files: Iterable[Path], folder: Path, keys: dict[Path, str]) -> list[Path] | None:
    if not text.strip():
        return None
    pattern = Pattern(text)
    caught = {p: key for p in files if (key := pattern.caught(p, folder)) is not None}
    if not caught:
        raise InputError(f"No file of {folder.name} has a name like {pattern.text}.")
    keys.update(caught)
    return list(caught)


def _first_channels(images: list[Path], found: Pairs) -> list[Path]:
    """Without the further channels of images that nnU-Net's names say are several (``_0001`` beside ``_0000``)."""
    names = {(p.parent, stem_of(p)) for p in images}
    kept, further = [], 0
    for path in images:
        channel = _CHANNEL.match(stem_of(path))
        if channel and channel[2] != "0000" and (path.parent, f"{channel[1]}_0000") in names:
            further += 1
        else:
            kept.append(path)
    if further:
        found.told.append(f"{further} files are further channels of an image (_0001 ...); the first one is shown.")
    return kept


def _numbers_differ(one: str, other: str) -> bool:
    """Whether two names have numbers, and not the same ones: then they are of two patients."""
    a, b = (set(re.findall(r"[0-9]+", name)) for name in (one, other))
    return bool(a and b and a != b)


class _Matcher:
    """Looks for the image of each mask."""

    def __init__(self, images: Sequence[Path], folder: Path, keys: dict[Path, str]) -> None:
        self._images, self._folder, self._keys = images, folder, keys
        #: How many masks were given the only image of their folder, although names differ.
        self.by_folder = 0
        self._by: dict[str, dict[str, list[Path]]] = {"caught": {}, "stem": {}, "key": {}}
        for path in images:
            stem = stem_of(path)
            for kind, name in (("caught", keys.get(path)), ("stem", stem.casefold()), ("key", key_of(stem))):
                if name is not None:
                    self._by[kind].setdefault(name, []).append(path)

    def match(self, masks: Sequence[Path], found: Pairs) -> None:
        partners: dict[Path, list[Path]] = {}
        alone: list[Path] = []
        hidden: set[Path] = set()
        for mask in masks:
            near = self._candidates(mask)
            if len(near) == 1:
                partners.setdefault(near[0], []).append(mask)
                continue
            (found.unsure if near else alone).append(mask)
            hidden.update(near)
        several = {image: of for image, of in partners.items() if len(of) > 1}
        found.pairs += [(image, mask) for image, of in partners.items() for mask in of]
        found.pairs += [(None, mask) for mask in [*alone, *found.unsure]]
        bare = [p for p in self._images if p not in partners and p not in hidden]
        found.pairs += [(p, None) for p in bare]
        if several:
            found.told.append(f"{len(several)} images have several masks each; every mask is a case, called after it.")
        if self.by_folder:
            found.told.append(f"{self.by_folder} masks were given the only image of their folder; their names differ.")
        if masks and (alone or bare):
            found.told.append(f"{len(bare)} images have no mask, {len(alone)} masks have no image of their name.")
        if found.unsure:
            found.told.append(self._which(found.unsure, hidden))

    def _which(self, unsure: Sequence[Path], images: set[Path]) -> str:
        """What is said where masks fit several images: with an example of each name, and how to choose."""
        mask = unsure[0]
        names = sorted(stem_of(p) for p in self._candidates(mask))
        ends = re.split(r"[ _.-]", names[0])[-1]
        return (
            f"{len(unsure)} masks fit several images each, so they have none: {mask.name} fits {', '.join(names[:5])}. "
            f"Say which images are meant by a pattern of their names, for example *{ends}."
        )

    def _candidates(self, mask: Path) -> list[Path]:
        """The images that are equally near to ``mask``: one where names are clear, none, or several."""
        stem = stem_of(mask)
        caught = self._keys.get(mask)
        if caught is not None:
            looked = [("caught", caught), ("stem", caught), ("key", key_of(caught)), ("key", caught)]
        else:
            bare = _bare(_ENTITY.sub("", stem))
            looked = [("stem", _bare(stem).casefold()), ("stem", bare.casefold()), ("caught", bare.casefold())]
            looked.append(("key", key_of(stem)))
        for kind, name in looked:
            if not name and caught is None:
                continue  # a mask that is only called mask: its folder tells
            if found := self._nearest(mask, self._by[kind].get(name, [])):
                if not name and not any(p.parent == mask.parent for p in found):
                    continue
                return found
        parts = re.split(r"([ _.-]+)", stem)
        for n in range(len(parts) - 2, 0, -2):  # p1_reader2_mask is of p1
            name = "".join(parts[:n]).casefold()
            if any(c.isdigit() for c in name) and (found := self._nearest(mask, self._by["stem"].get(name, []))):
                return found
        if caught:
            return []
        inside = [p for p in self._images if mask.parent in (p, p.parent)]
        if len(inside) == 1 and key_of(stem) and not _numbers_differ(stem, stem_of(inside[0])):
            self.by_folder += 1
            return inside
        return [] if key_of(stem) else inside

    def _nearest(self, mask: Path, images: Sequence[Path]) -> list[Path]:
        """Those of ``images`` that share most folders with ``mask``; of those the one in whose space it says it is."""
        if len(images) < 2:
            return list(images)
        own = set(mask.relative_to(self._folder).parts[:-1])
        shared = [len(own & set(p.relative_to(self._folder).parts[:-1])) + (p.parent == mask.parent) for p in images]
        best = [p for p, n in zip(images, shared, strict=True) if n == max(shared)]
        if len(best) > 1 and (space := _SPACE.search(stem_of(mask))):
            named = [p for p in best if stem_of(p).casefold().endswith(f"_{space[1].casefold()}")]
            best = named or best
        return best
