"""A case to look at: one question with its image, fetched from the store, and the card that shows it.

What is drawn and told on a card is the business of those who make one; every image is checked against its name.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipeline.core.markup import Markup, tag
from pipeline.stages.demo_overlays import Drawn, compared, overlaid
from pipeline.stages.demo_tables import Questions
from schemas.boxes import Box
from schemas.errors import DigestError, InputError
from schemas.records import Question
from schemas.rows import question_from


@dataclass(frozen=True, slots=True)
class Case:
    question: Question
    image: Image.Image  # as stored

    def described(self) -> str:
        """For those who cannot see it."""
        width, height = self.image.size
        return f"synthetic radiograph, {width} × {height} pixels"


@dataclass(frozen=True)
class Cases:
    """Questions and images of one version of the store, by id."""

    asked: Questions
    view_px: int

    def question_types(self, split: str) -> dict[str, str | None]:
        rows = self._rows("SELECT question_id, question_type FROM questions WHERE split = ?", split)
        return {row["question_id"]: row["question_type"] for row in rows}

    def case(self, question_id: str) -> Case:
        rows = self._rows("SELECT * EXCLUDE slice FROM questions WHERE question_id = ?", question_id)
        if not rows:
            fix = "remove the evaluations and run the demo again"
            raise InputError(f"question {question_id!r} is not in the store", where=self.asked.demo.store, fix=fix)
        question = question_from(rows[0])
        return Case(question, self._image(question.image_ids[0]))

    def _image(self, image_id: str) -> Image.Image:
        rows = self._rows("SELECT image.bytes AS data FROM images WHERE image_id = ? LIMIT 1", image_id)
        if not rows or hashlib.sha256(rows[0]["data"]).hexdigest() != image_id:
            what = f"image {image_id[:12]}… is missing, or its bytes are not those it is named for"
            raise DigestError(what, where=self.asked.demo.store, fix=f"fovea audit --store {self.asked.demo.store}")
        image = Image.open(io.BytesIO(rows[0]["data"]))
        image.load()
        return image

    def _rows(self, text: str, value: str) -> list[dict[str, Any]]:
        cursor = self.asked.store.execute(text, [value])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def card(
        self,
        case: Case,
        *,
        verdict: Markup | str,
        facts: str,
        drawn: Sequence[Drawn],
        alt: str,
        looks_xyxy_px: Sequence[Box],
        told: Sequence[Markup],
    ) -> Markup:
        """The question and its outcome; the image with boxes beside what is told and what each look showed."""
        picture = overlaid(case.image, drawn, f"{case.described()}; {alt}")
        shown = [compared(case.image, look, self.view_px, at) for at, look in enumerate(looks_xyxy_px, 1)]
        return tag(
            "article",
            tag("h3", case.question.question, " ", verdict),
            tag("p", facts, class_="facts"),
            tag("div", picture, tag("div", *told, tag("div", *shown, class_="looks")), class_="beside"),
            class_="card",
        )
