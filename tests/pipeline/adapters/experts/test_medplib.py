"""The `medplib` expert against the reference server on loopback: what it asks, and how it reads the answers."""

import json
from collections import Counter
from dataclasses import replace
from threading import Thread
from weakref import WeakSet

import numpy as np
import pytest
from PIL import Image

from pipeline.adapters.experts import medplib as module
from pipeline.adapters.experts.medplib import MedplibExpert
from pipeline.adapters.experts.medplib_contract import REGION
from schemas.experts import Failure, Seen
from tests.pipeline.adapters.experts.medplib_asks import BRIGHT, DIM, IMAGE, LOOK, drill, picture, scan
from tests.pipeline.medplib_servers import serving


def test_a_scan_shows_the_image_and_gives_the_parts_of_the_mask_best_first(medplib):
    with serving() as service:
        (seen,) = medplib(service).answer([scan()])
    image, text, _ = service.model.seen[-1]
    assert (image.size, text) == (IMAGE.size, "Segment it: What about 0?")
    assert [each.box_xyxy_px for each in seen.candidates] == [BRIGHT, DIM]
    assert [each.confidence for each in seen.candidates] == pytest.approx([0.9 * 160 / 160, 0.9 * 100 / 160])
    assert seen.text == "It is ."
    assert json.loads(seen.raw)["regions"][0]["area"] == 80 * 40


def test_boxes_are_in_stored_pixels_whatever_size_was_shown(medplib):
    with serving() as service:
        (seen,) = medplib(service, view_px=100).answer([scan()])
        assert service.model.seen[-1][0].size == (100, 50)
        for found, box in zip(seen.candidates, (BRIGHT, DIM), strict=True):
            assert found.box_xyxy_px == pytest.approx(box, abs=2 * 4)  # resampling blurs by a pixel or two of 4


def test_a_drill_shows_the_crop_with_the_region_in_it_and_is_the_share_of_yes(medplib):
    with serving() as service:
        (seen,) = medplib(service).answer([drill()])
        image, text, region = service.model.seen[-1]
    assert (image.size, text) == ((336, 168), f"Is {REGION} a region? What about 0?")
    ys, xs = np.nonzero(region)
    scale = 336 / 200  # of the look
    assert (xs.min(), xs.max() + 1) == pytest.approx((40 * scale, 120 * scale), abs=1)
    assert (ys.min(), ys.max() + 1) == pytest.approx((20 * scale, 60 * scale), abs=1)
    raw = json.loads(seen.raw)
    assert seen.candidates[0].confidence == pytest.approx(raw["p_yes"] / (raw["p_yes"] + raw["p_no"]))
    assert seen.candidates[0].confidence == pytest.approx(220 / 255, abs=0.02)
    assert (seen.candidates[0].box_xyxy_px, seen.text) == (BRIGHT, "Yes, it is bright.")
    assert "latency_ms" not in raw  # the same answer is the same bytes


def test_a_drill_may_show_the_whole_image(medplib):
    with serving() as service:
        medplib(service, drill_on="whole").answer([drill()])
        image, _, region = service.model.seen[-1]
    assert image.size == IMAGE.size
    assert region[20:60, 40:120].all()
    assert region.sum() == 80 * 40


def test_the_prompts_that_ship_are_those_of_medplib(medplib):
    with serving() as service:
        medplib(service, prompts="").answer([scan(), drill()])
    texts = {text for _, text, _ in service.model.seen}
    assert texts == {
        "Please locate all abnormal regions in the image.",
        f"Is there any abnormality in the area {REGION}? Answer yes or no.",
    }


def test_an_image_without_anything_gives_an_empty_scan(medplib):
    with serving() as service:
        (seen,) = medplib(service).answer([scan(image=Image.new("L", (50, 40), 9))])
    assert (seen.candidates, seen.text) == ((), "There is nothing to see.")


def test_every_mode_of_image_can_be_asked_about(medplib):
    modes = ("1", "L", "P", "RGB", "RGBA", "I;16", "F")
    with serving() as service:
        images = [
            IMAGE.convert("I").point(lambda v: v * 100).convert(m) if m == "I;16" else IMAGE.convert(m) for m in modes
        ]
        asks = [replace(scan(n, image), image_id=f"i{n}") for n, image in enumerate(images)]
        assert all(isinstance(each, Seen) for each in medplib(service).answer(asks))


def test_the_image_of_each_ask_is_shown(medplib):
    other = picture((200, 190))
    asks = [scan(0), scan(0, other), drill(0), drill(0, replace(LOOK, image=1), other)]
    with serving() as service:
        answers = medplib(service, drill_on="whole").answer(asks)
    shown = [(image.size, region is None) for image, _, region in service.model.seen]
    assert sorted(shown) == sorted((image.size, is_scan) for image in (IMAGE, other) for is_scan in (True, False))
    assert answers[0].candidates != answers[1].candidates


def test_the_same_request_is_sent_once_for_all_questions_about_an_image(medplib):
    others = replace(LOOK, box_xyxy_px=(0.0, 0.0, 30.0, 90.0)), replace(LOOK, look_xyxy_px=(20.0, 0.0, 150.0, 90.0))
    looks = [LOOK, replace(LOOK, label="spot"), replace(LOOK, round=2), *others]
    asks = [ask for n in range(4) for ask in (scan(n), *(drill(n, look) for look in looks))]
    with serving() as service:
        answers = medplib(service, prompts="").answer(asks)
        assert Counter(name for name, _ in service.asked) == {"health": 1, "scan": 1, "drill": 3}
        assert answers == [each for ask in asks for each in medplib(service, prompts="").answer([ask])]
    assert [each.candidates[0].label for each in answers[:4]] == ["region", "region", "spot", "region"]
    with serving(odd={"Please locate all": "500"}) as service:
        failed = medplib(service, prompts="").answer(asks)
    assert [isinstance(each, Failure) for each in failed] == [True, *[False] * 5] * 4


def test_answers_are_those_of_each_ask_in_its_place_and_the_same_again(medplib):
    looks = [replace(LOOK, box_xyxy_px=(8.0 * n, 4.0 * n, 100.0 + n, 90.0)) for n in range(10)]
    asks = [ask for n, look in enumerate(looks) for ask in (scan(n), drill(n, look))]
    with serving() as service:
        asked = medplib(service)
        answers = asked.answer(asks)
        assert answers == [asked.answer([ask])[0] for ask in asks]
    assert len({each.candidates for each in answers[1::2]}) == len(looks)
    assert sum(name == "health" for name, _ in service.asked) == 1  # checked once


@pytest.mark.parametrize("drill_on", ["crop", "whole"])
def test_pictures_are_kept_only_while_they_are_needed(medplib, monkeypatch, drill_on):
    kept, most, make, text = WeakSet(), [], module._shown, type("Text", (str,), {})

    def watched(view: Image.Image) -> tuple[tuple[int, int], str]:
        size, told = make(view)
        kept.add(told := text(told))
        most.append(len(kept))
        return size, told

    monkeypatch.setattr(module, "_shown", watched)
    images = [picture((400, 200 + n)) for n in range(8)]
    asks = [make(n, image=image) for make in (scan, drill) for n, image in enumerate(images)]
    with serving() as service:
        medplib(service, concurrency=1, drill_on=drill_on).answer(asks)
    assert len(most) == (8 if drill_on == "whole" else 16)  # a whole image is made ready once
    assert max(most) <= 2


def test_threads_share_one_expert(medplib):
    with serving() as service:
        asked, found = medplib(service), {}
        threads = [Thread(target=lambda n=n: found.update({n: asked.answer([scan(n), drill(n)])})) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (MedplibExpert.shards_at_once, MedplibExpert.is_costly) == (4, True)
    assert sum(name == "health" for name, _ in service.asked) == 1
    assert all(isinstance(each, Seen) for answers in found.values() for each in answers)
    assert len(found) == 4


def test_use_is_counted(medplib):
    with serving() as service:
        asked = medplib(service)
        asked.answer([drill(), drill(1)])
        used, again = asked.take_usage(), asked.take_usage()
    assert (used["n_requests"], used["n_failures"], again["n_requests"]) == (3, 0, 0)  # one asks for health
