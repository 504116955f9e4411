"""A folder of predictions against a folder of references: pairs of files, a row a case and class, what holds on
average.

Intervals are bootstrap intervals of the mean (bias-corrected and accelerated; Efron, 1987) over cases; two models are
compared by Wilcoxon's signed-rank test of the paired cases, with the matched-pairs rank-biserial correlation as effect
size (Kerby, 2014). scipy does both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MedSegError
from ..io.segmentations import read_segmentation
from ..monitor import Monitor
from ..result import Cell, Column, Table
from .masks import COLUMNS, Matching
from .pairs import compare_segmentations

_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm")
#: What programs put at the end of the name of a mask.
_ENDINGS = re.compile(
    r"[_.-](seg|segmentation|mask|label|labels|pred|prediction|gt|manual|dseg|reviewed)$", re.IGNORECASE
)
_LOWER_IS_BETTER = {"hd", "hd95", "assd", "lesions_fp", "lesions_fn"}
_RESAMPLES = 9999


@dataclass(frozen=True)
class CasePair:
    """``name``: of the case."""

    name: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class Pairing:
    """``only_predictions``, ``only_references``: files without a partner."""

    pairs: tuple[CasePair, ...]
    only_predictions: tuple[Path, ...] = ()
    only_references: tuple[Path, ...] = ()


def pair_folders(predictions: Path, references: Path) -> Pairing:
    """Files of the same case in two folders: by the path below the folder, else by the case that their names say.

    A case is the file's name without its kind and without ``_seg``, ``_mask``, ``_gt`` and the like; of a file called
    ``segmentation.seg.nrrd``, ``mask.nii.gz`` or so it is its folder. Raises `InputError` where nothing is paired, or
    a folder has two files of one case.
    """
    ours, theirs = _cases(Path(predictions)), _cases(Path(references))
    pairs = [CasePair(name, ours[name], theirs[name]) for name in sorted(set(ours) & set(theirs), key=_natural)]
    if not pairs:
        raise InputError(
            f"No file of {Path(predictions).name} belongs to one of {Path(references).name}: cases are paired by "
            "the names of "
            f"files or their folders (found are {', '.join(sorted(ours)[:3])} and {', '.join(sorted(theirs)[:3])})."
        )
    return Pairing(
        tuple(pairs),
        tuple(path for name, path in sorted(ours.items()) if name not in theirs),
        tuple(path for name, path in sorted(theirs.items()) if name not in ours),
    )


def _cases(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of segmentations.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.lower().endswith(_SUFFIXES) or any(p.startswith(".") for p in path.relative_to(folder).parts):
            continue
        name = _case_name(path, folder)
        if name in found:
            raise InputError(
                f"{folder.name} holds two files of the case {name}: {found[name].name} and {path.name}; leave one "
                "there."
            )
        found[name] = path
    if not found:
        raise InputError(f"{folder.name} holds no segmentations ({', '.join(_SUFFIXES)}).")
    return found


def _case_name(path: Path, folder: Path) -> str:
    lower = path.name.lower()
    suffix = next(s for s in _SUFFIXES if lower.endswith(s))
    stem = path.name[: -len(suffix)]
    general = re.fullmatch(r"(seg|segmentation|mask|label|labels|pred|prediction|gt|manual|dseg|reviewed)", stem, re.I)
    if general and path.parent != folder:
        return path.parent.relative_to(folder).as_posix()
    return _ENDINGS.sub("", stem)


def _natural(text: str) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


# -- figures ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Evaluation:
    """``rows``: (case, class, figures by name). ``failed``: case -> why it could not be compared.

    ``counted``: what `summary` gives, where another process has counted it.
    """

    rows: list[tuple[str, str, dict[str, float | int | None]]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    counted: Table | None = None

    @property
    def names(self) -> list[str]:
        """The figures that there are, in their order."""
        return [name for name in COLUMNS if any(name in values for _, _, values in self.rows)]

    def table(self) -> Table:
        """A row a case and class; a case that failed has its sentence in ``problem``."""
        columns = [Column("case", "str"), Column("class", "str")]
        for name in self.names:
            columns.append(Column(name, "int" if name.startswith("lesions_") else "float", *COLUMNS[name]))
        columns.append(Column("problem", "str", "", "why a case could not be compared"))
        rows: list[tuple[Cell, ...]] = [
            (case, name, *(values.get(n) for n in self.names), "") for case, name, values in self.rows
        ]
        rows += [(case, "", *(None for _ in self.names), why) for case, why in self.failed.items()]
        return Table("cases", tuple(columns), tuple(rows))

    def values(self, name: str, figure: str) -> dict[str, float]:
        """Case -> ``figure`` of the class ``name``, where it is defined."""
        found = {case: values.get(figure) for case, one, values in self.rows if one == name}
        return {case: float(v) for case, v in found.items() if v is not None}

    @property
    def classes(self) -> list[str]:
        """The classes, in the order in which they were met."""
        return list(dict.fromkeys(name for _, name, _ in self.rows))

    def summary(self) -> Table:
        """A row a class and figure: cases, mean with its 95 % interval, standard deviation, median, least, greatest."""
        if self.counted is not None:
            return self.counted
        columns = (
            Column("class", "str"), Column("figure", "str"), Column("unit", "str"), Column("cases", "int"),
            Column("left_out", "int", "", "cases in which it is not defined"), Column("mean", "float"),
            Column("low", "float", "", "95 % bootstrap interval of the mean"), Column("high", "float"), Column("std",
            "float"), Column("median", "float"), Column("minimum", "float"), Column("maximum", "float"),
        )  # fmt: skip
        rows: list[tuple[Cell, ...]] = []
        for name in self.classes:
            count = sum(one == name for _, one, _ in self.rows)
            for figure in self.names:
                values = np.array(list(self.values(name, figure).values()))
                if not values.size:
                    rows.append((name, figure, COLUMNS[figure][0], 0, count, *[None] * 7))
                    continue
                low, high = mean_interval(values)
                spread = float(values.std(ddof=1)) if values.size > 1 else None
                rows.append(
                    (
                        name,
                        figure,
                        COLUMNS[figure][0],
                        int(values.size),
                        count - int(values.size),
                        float(values.mean()),
                        low,
                        high,
                        spread,
                        float(np.median(values)),
                        float(values.min()),
                        float(values.max()),
                    )
                )
        return Table("summary", columns, tuple(rows))


def mean_interval(values: npt.ArrayLike, *, seed: int = 0) -> tuple[float | None, float | None]:
    """95 % bootstrap interval of the mean (scipy, BCa); (None, None) of fewer than two values."""
    from scipy import stats

    data = np.asarray(values, dtype=float)
    if data.size < 2:
        return None, None
    if np.ptp(data) == 0:  # every resample is the same
        return float(data[0]), float(data[0])
    method = "BCa" if data.size > 2 else "percentile"
    found = stats.bootstrap((data,), np.mean, n_resamples=_RESAMPLES, method=method, rng=np.random.default_rng(seed))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def evaluate(
    pairs: Sequence[CasePair],
    *,
    classes: dict[str, str] | None = None,
    tolerance_mm: float = 1.0,
    matching: Matching | None = None,
    monitor: Monitor | None = None,
) -> Evaluation:
    """Compare all ``pairs``; a case that cannot be compared costs its row only."""
    monitor = monitor or Monitor()
    found = Evaluation()
    for n, pair in enumerate(pairs):
        monitor.progress(n, len(pairs), pair.name)
        own = Monitor()
        try:
            compared = compare_segmentations(
                read_segmentation(pair.prediction, monitor=own),
                read_segmentation(pair.reference, monitor=own),
                pairs=classes,
                tolerance_mm=tolerance_mm,
                matching=matching,
                monitor=own,
            )
        except MedSegError as error:
            found.failed[pair.name] = str(error)
            monitor.warn(f"{pair.name}: {error}")
        else:
            found.rows += [(pair.name, one.name, one.figures.values()) for one in compared.classes]
            for sentence in own.warnings:
                monitor.warn(f"{pair.name}: {sentence}")
    if not found.rows:
        raise InputError("None of the cases could be compared; the sentences above say why.")
    return found


def versus(one: Evaluation, other: Evaluation) -> Table:
    """Two models on the same cases, a row a class and figure: means, difference, Wilcoxon's p, effect size.

    ``effect``: matched-pairs rank-biserial correlation, from -1 to 1; positive where the first is greater.
    ``better``: which of the two is better by the mean (smaller distances are better), "" where they are equal.
    """
    from scipy import stats

    columns = (
        Column("class", "str"), Column("figure", "str"), Column("cases", "int"), Column("first", "float"),
        Column("second", "float"), Column("difference", "float", "", "mean of first less second"), Column("low",
        "float"), Column("high", "float"), Column("p", "float", "", "Wilcoxon signed-rank test, two-sided"),
        Column("effect", "float", "", "matched-pairs rank-biserial correlation"), Column("better", "str"),
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for name in one.classes:
        for figure in one.names:
            mine, theirs = one.values(name, figure), other.values(name, figure)
            cases = [case for case in mine if case in theirs]
            a, b = np.array([mine[c] for c in cases]), np.array([theirs[c] for c in cases])
            if not cases:
                continue
            difference = a - b
            low, high = mean_interval(difference)
            p, effect = None, None
            if np.any(difference):
                p = float(stats.wilcoxon(difference).pvalue) if len(cases) > 1 else None
                ranks = stats.rankdata(np.abs(difference[difference != 0]))
                signs = np.sign(difference[difference != 0])
                effect = float((ranks * signs).sum() / ranks.sum())
            mean = float(difference.mean())
            first_better = mean < 0 if figure in _LOWER_IS_BETTER else mean > 0
            signed = figure not in (
                "prediction_volume",
                "reference_volume",
                "volume_difference",
                "volume_difference_percent",
            )
            better = ("first" if first_better else "second") if mean and signed else ""
            rows.append(
                (name, figure, len(cases), float(a.mean()), float(b.mean()), mean, low, high, p, effect, better)
            )
    return Table("versus", columns, tuple(rows))
