"""A page as a PDF file, printed by Qt's own text engine: Slicer has it, so nothing is to be installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt

from medseg.errors import OutputError
from medseg.output.files import replacing

_MARGIN_MM = 10.0
_DPI = 300
#: The printed part of A4 in pixels of 1/96 inch, in which the page is laid out.
_PAGE = ((210 - 2 * _MARGIN_MM) / 25.4 * 96, (297 - 2 * _MARGIN_MM) / 25.4 * 96)


def write_pdf(path: str | Path, html: str, title: str) -> int:
    """Print ``html`` on A4, all or nothing; how many pages there are. Raises `OutputError`.

    ``html``: as `medseg.report.page.page` makes it; Qt knows few of a browser's ways to lay out a page.
    """
    with replacing(Path(path)) as new:
        writer = qt.QPdfWriter(str(new))
        writer.setResolution(_DPI)
        writer.setTitle(title)
        writer.setCreator("MedSeg")
        margins = qt.QMarginsF(_MARGIN_MM, _MARGIN_MM, _MARGIN_MM, _MARGIN_MM)
        a4 = qt.QPageSize(qt.QPageSize.A4)
        writer.setPageLayout(qt.QPageLayout(a4, qt.QPageLayout.Portrait, margins, qt.QPageLayout.Millimeter))
        document = qt.QTextDocument()
        document.setDocumentMargin(0)
        document.setPageSize(qt.QSizeF(*_PAGE))
        document.setHtml(html)
        _print(document, writer)
        pages = _pages(new)
        if not pages:  # Qt says nothing where it could not write
            raise OutputError(f"{Path(path).name} could not be printed; choose another folder, or write HTML instead.")
    return pages


def _print(document: Any, writer: Any) -> None:
    # "print" is a method of Qt 5 as PythonQt shows it, "print_" of PySide6, which keeps the word for Python 2.
    method = getattr(document, "print_", None) or document.print
    method(writer)


def _pages(path: Path) -> int:
    """Pages of a PDF that Qt wrote; 0 where it wrote none."""
    return path.read_bytes().count(b"/Type /Page\n") if path.is_file() else 0
