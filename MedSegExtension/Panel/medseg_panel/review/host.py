"""What the list of cases and the rating need of the Review tab that they are put into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class ReviewHost(Protocol):
    """The Review tab as its case list sees it. `tab.ReviewTab` is one as it stands.

    It tells back: `CaseList.case_left` and `RatingSection.show(None)` when a case was closed (however that came), and
    `RatingSection.show(reviewing)` when one was opened.
    """

    #: The open case (`reviewing.Reviewing`), None where there is none. The rating is written into its ``kept`` (rating,
    #: comment, fields, seconds, state), and its ``write()`` is called then.
    reviewing: Any

    @property
    def root(self) -> Path:
        """The folder below which reviews are kept; a list of cases gets a folder of its own in it."""

    def open(self, work: Any, told: list[str] | None = None) -> bool:
        """Open a case (`work.Work`, its volume node is in the scene), leaving the one that is open.

        False where it cannot be opened, which was told. ``told``: sentences for the reader."""

    def leave(self) -> None:
        """Save and close the open case, if there is one. Nodes of its image are left to whoever made them."""

    def say(self, words: str) -> None:
        """Tell the reader, in the line of the tab's state."""
