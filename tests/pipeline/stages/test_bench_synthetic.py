"""The workload of the search benchmark: pure, readable, and searched about as the phantom is."""

import io
from collections import Counter
from functools import partial
from hashlib import sha256

import pytest
from PIL import Image as Pillow

from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import SearchResult, search
from pipeline.stages.bench_synthetic import SIZES, BenchExpert, BenchSource
from schemas.experts import Ask, Drill, Scan
from schemas.records import Image, Question

N_QUESTIONS = 400


@pytest.fixture(scope="module")
def rows() -> tuple[list[Image], list[Question]]:
    source = BenchSource(N_QUESTIONS)
    read = [source.read(shard) for shard in source.plan()]
    return [image for one in read for image in one.images], [asked for one in read for asked in one.questions]


@pytest.fixture(scope="module")
def found(rows: tuple[list[Image], list[Question]]) -> SearchResult:
    items = [
        SearchItem(asked, (SearchImage(image.image_id, (image.width, image.height), partial(_Blank, image)),))
        for image, asked in zip(*rows, strict=True)
    ]
    return search(items, BenchExpert(), SearchConfig(), source="bench", seed=0)


class _Blank:
    def __init__(self, image: Image) -> None:
        self.size = (image.width, image.height)


def test_pictures_are_small_and_distinct_and_have_the_sizes_they_are_said_to_have(rows):
    images, questions = rows
    assert len({image.image_id for image in images}) == len(images) == N_QUESTIONS
    for image in images[:8]:
        picture = Pillow.open(io.BytesIO(image.data))
        picture.load()
        assert picture.size == (image.width, image.height)
        assert image.image_id == sha256(image.data).hexdigest()
    assert {(image.width, image.height) for image in images} == set(SIZES)
    assert max(len(image.data) for image in images) < 400
    assert [asked.image_ids for asked in questions] == [(image.image_id,) for image in images]
    assert Counter(asked.split for asked in questions) == {"train": 360, "test": 40}


def test_more_questions_leave_the_first_as_they_are(rows):
    source = BenchSource(3000)
    assert [len(shard.payload) for shard in source.plan()] == [1000, 1000, 1000]
    assert len({source.digest(shard) for shard in source.plan()}) == 3
    first = source.read(source.plan()[0])
    assert (first.images[:N_QUESTIONS], first.questions[:N_QUESTIONS]) == rows


def test_an_answer_is_a_function_of_what_is_asked(rows):
    (image, *_), (asked, *_) = rows
    blank, expert = _Blank(image), BenchExpert()
    (scan,) = expert.answer([Ask(asked, image.image_id, blank, Scan())])
    assert 4 <= len(scan.candidates) <= 8
    drills = [
        Drill(each.box_xyxy_px, each.label, each.box_xyxy_px, round_) for each in scan.candidates for round_ in (1, 2)
    ]
    asks = [Ask(asked, image.image_id, blank, drill) for drill in drills]
    told = expert.answer(asks)
    assert told == [answer for ask in asks for answer in expert.answer([ask])]
    assert told == expert.answer(asks[::-1])[::-1]
    first, second = (told[which].candidates[0].confidence for which in (0, 1))
    assert scan.candidates[0].confidence < first < second < 1


def test_searches_take_their_ways_about_as_often_as_on_the_phantom(found):
    """Phantom L1 with its annotations, 250 questions: 77 % confident, 16 % length, 7 % exhausted, 3.8 rows each."""
    stops = Counter(row.stop_reason for row in found.trajectories)
    shares = {name: n / len(found.trajectories) for name, n in stops.items()}
    assert shares == pytest.approx({"confident": 0.79, "length": 0.17, "exhausted": 0.04}, abs=0.04)
    assert len(found.trajectories) / N_QUESTIONS == pytest.approx(3.8, abs=0.2)
    variants = Counter(row.question_id for row in found.trajectories if row.origin == "cvs")
    assert set(variants.values()) == {1, 2, 3, 4, 5, 6}
    assert {row.n_redraws for row in found.trajectories} == {0, 1, 2, 3, 4}
    gains = [step.delta_c for row in found.trajectories for step in row.steps if step.delta_c is not None]
    assert 0.4 < sum(gain >= 0.15 for gain in gains) / len(gains) < 0.6
    assert not found.rejects
