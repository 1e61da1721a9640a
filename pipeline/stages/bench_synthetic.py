"""A source of empty pictures with one question each, and an expert that answers by a hash of what it is asked.

What costs nothing to draw and nothing to ask leaves the search to be measured. The answers are shaped like those of
the phantom (level L1, its own annotations): four to eight regions a scan, one of them what is asked about, drills that
gain more or less than δ; so a search takes all its ways about as often as there. They mean nothing.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any, ClassVar

from pipeline.adapters.pixels import stored_image
from pipeline.adapters.sources.base import SourceRows, SourceShard, runs
from schemas.boxes import Size
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Seen
from schemas.records import Hashes, Image, Question
from schemas.seeds import uniform

SIZES = ((512, 512), (640, 480), (480, 640), (1024, 768))
FINDINGS = ("nodule", "effusion", "consolidation", "pneumothorax", "cardiomegaly")
SHARD_QUESTIONS = 1000
TEST_EVERY = 10
NARROWS = 0.25  # share of what a region lacks to be fully seen that each further round still lacks


@dataclass(frozen=True, slots=True)
class BenchSource:
    """Question n asks of picture n; every tenth is of the test split."""

    n_questions: int
    name: ClassVar[str] = "bench"
    revision: ClassVar[int] = 1
    licence: ClassVar[str] = "CC0-1.0"

    def config(self) -> dict[str, Any]:
        return {}

    def plan(self) -> list[SourceShard]:
        numbered = runs(range(self.n_questions), SHARD_QUESTIONS)
        return [SourceShard(f"{numbers[0]:07d}", tuple(numbers)) for numbers in numbered]

    def digest(self, shard: SourceShard) -> str:
        return sha256(json.dumps(shard.payload).encode()).hexdigest()

    def read(self, shard: SourceShard) -> SourceRows:
        images = [_image(number) for number in shard.payload]
        asked = [_question(number, image.image_id) for number, image in zip(shard.payload, images, strict=True)]
        return SourceRows(images, asked)


def _image(number: int) -> Image:
    blank = _blank(SIZES[number % len(SIZES)])
    end = blank.data[-12:]  # the chunk IEND
    data = blank.data[:-12] + _chunk(b"tEXt", b"number\0%d" % number) + end
    return replace(blank, image_id=sha256(data).hexdigest(), data=data, path=f"{number:07d}.png")


@cache
def _blank(size: Size) -> Image:
    """Black, one bit a pixel: some hundred bytes."""
    width, height = size
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height))
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    made = stored_image(data, "", source=BenchSource.name, licence=BenchSource.licence, modality="empty")
    return replace(made, hashes=Hashes())


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _question(number: int, image_id: str) -> Question:
    finding = FINDINGS[number % len(FINDINGS)]
    return Question(
        question_id=f"bench/{number:07d}",
        source=BenchSource.name,
        split="train" if number % TEST_EVERY else "test",
        image_ids=(image_id,),
        question=f"Is there a {finding} in the upper right part of this picture, number {number}?",
        answer="yes" if uniform("bench answer", number) < 0.5 else "no",
        answer_kind="closed",
        question_type="presence",
        answer_type="CLOSED",
    )


@dataclass(frozen=True, slots=True)
class BenchExpert:
    """Costs about as little as an answer can; looks at no picture but for its size."""

    identity: ClassVar[ExpertIdentity] = ExpertIdentity("bench", "1")

    def answer(self, asks: Sequence[Ask]) -> list[Seen]:
        return [_drilled(ask, ask.query) if isinstance(ask.query, Drill) else _scanned(ask) for ask in asks]


def _scanned(ask: Ask) -> Seen:
    found = tuple(_regions(ask.question.question_id, ask.image.size))
    told = [{"bbox_2d": [round(x) for x in each.box_xyxy_px], "label": each.label} for each in found]
    return Seen(found, f"{len(found)} regions may matter here", json.dumps(told))


def _regions(question_id: str, size: Size) -> Iterator[Candidate]:
    """In three questions of ten all regions lie in two places, so that a search runs out of them."""
    n_places = 2 if uniform("bench crowd", question_id) < 0.3 else 8
    for number in range(4 + int(5 * uniform("bench n", question_id))):
        x, y, width, height = (uniform("bench box", question_id, number % n_places, edge) for edge in range(4))
        left, top = (0.8 * x + 0.004 * (number // n_places)) * size[0], 0.8 * y * size[1]
        box = (left, top, left + (0.08 + 0.12 * width) * size[0], top + (0.08 + 0.12 * height) * size[1])
        label = f"region {number}"
        yield Candidate(box, label, _confidence(question_id, label, 0))


def _drilled(ask: Ask, drill: Drill) -> Seen:
    confidence = _confidence(ask.question.question_id, drill.label, drill.round)
    words = (
        f"{'likely' if confidence >= 0.5 else 'possible'} {FINDINGS[0]} in {drill.label}, seen in round {drill.round}"
    )
    return Seen((Candidate(drill.box_xyxy_px, drill.label, confidence),), words, words)


def _confidence(question_id: str, label: str, round_: int) -> float:
    """relevance × visibility: some regions near a confidence above ξ, the others one below it."""
    kind, relevance, hidden = (uniform("bench confidence", question_id, label, which) for which in range(3))
    is_meant = kind < (0.97 if label == "region 0" else 0.08)
    relevance = 0.86 + 0.14 * relevance if is_meant else 0.05 + 0.3 * relevance
    return relevance * (1 - (0.1 + 0.4 * hidden) * NARROWS**round_)
