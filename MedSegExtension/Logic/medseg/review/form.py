"""Further questions to the reader of a case, from a small JSON file.

``{"questions": [{"name": "motion", "text": "Motion artefacts?", "type": "yes/no"},
{"name": "side", "type": "choice", "choices": ["left", "right"], "required": true},
{"name": "age", "type": "number", "minimum": 0, "maximum": 120}, {"name": "remarks", "type": "text"}]}``
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError

TYPES = ("yes/no", "choice", "number", "text")
Answer = bool | float | str | None


@dataclass(frozen=True)
class Question:
    """``name``: the column in ``cohort.csv``. ``text``: as the reader sees it."""

    name: str
    text: str
    type: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    required: bool = False

    def checked(self, answer: Answer) -> Answer:
        """The answer as it is kept; None and "" are no answer. Raises `InputError` with what is expected."""
        if answer is None or answer == "":
            return None
        if self.type == "yes/no" and isinstance(answer, bool):
            return answer
        if self.type == "choice" and answer in self.choices:
            return answer
        if self.type == "text" and isinstance(answer, str):
            return answer
        if self.type == "number" and not isinstance(answer, bool):
            try:
                number = float(answer)
            except ValueError:
                number = math.nan
            low = -math.inf if self.minimum is None else self.minimum
            high = math.inf if self.maximum is None else self.maximum
            if math.isfinite(number) and low <= number <= high:
                return number
        raise InputError(f"{self.text}: {answer!r} is no answer; expected is {self._expected()}.")

    def _expected(self) -> str:
        if self.type == "choice":
            return "one of " + ", ".join(self.choices)
        if self.type == "number":
            least = "" if self.minimum is None else f", at least {self.minimum:g}"
            return f"a number{least}" + ("" if self.maximum is None else f", at most {self.maximum:g}")
        return "yes or no" if self.type == "yes/no" else "a text"


def read_form(path: str | Path) -> tuple[Question, ...]:
    """The questions of a form file. Raises `InputError` that names the question and what is wrong with it."""
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The form {path.name} cannot be read as JSON ({error}).") from error
    listed = raw.get("questions") if isinstance(raw, dict) else None
    if not isinstance(listed, list) or not listed:
        raise InputError(f'The form {path.name} needs "questions", a list.')
    questions: list[Question] = []
    for n, one in enumerate(listed, start=1):
        question = _question(one, f"Question {n} of {path.name}")
        if question.name in {q.name for q in questions}:
            raise InputError(f"Question {n} of {path.name}: there are two called {question.name}.")
        questions.append(question)
    return tuple(questions)


def _question(raw: Any, where: str) -> Question:
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str) or not raw["name"].strip():
        raise InputError(f'{where} needs a "name".')
    if unknown := set(raw) - set(Question.__dataclass_fields__):
        raise InputError(f"{where}: {sorted(unknown)[0]!r} is not known.")
    if raw.get("type") not in TYPES:
        raise InputError(f"{where}: the type {raw.get('type')!r} is none of {', '.join(TYPES)}.")
    choices = raw.get("choices", [])
    if not isinstance(choices, list) or not all(isinstance(c, str) and c for c in choices):
        raise InputError(f"{where}: choices are a list of words.")
    if (raw["type"] == "choice") != bool(choices):
        raise InputError(f'{where}: "choices" belong to the type choice, and it needs them.')
    bounds = [raw.get("minimum"), raw.get("maximum")]
    if any(b is not None and (isinstance(b, bool) or not isinstance(b, int | float)) for b in bounds):
        raise InputError(f"{where}: minimum and maximum are numbers.")
    text = raw.get("text", raw["name"])
    if not isinstance(text, str) or not isinstance(raw.get("required", False), bool):
        raise InputError(f'{where}: "text" is a text and "required" true or false.')
    return Question(
        raw["name"].strip(), text, raw["type"], tuple(choices), bounds[0], bounds[1], raw.get("required", False)
    )


def missing(questions: tuple[Question, ...], answers: Mapping[str, Answer]) -> list[str]:
    """Texts of required questions without an answer."""
    return [q.text for q in questions if q.required and answers.get(q.name) in (None, "")]
