"""An expert of known worth is measured at that worth, asked or recorded."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.commits import commit
from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from pipeline.stages.audit_expert import PRIVILEGED, Which, audit_recorded
from pipeline.stages.audit_expert_answers import Met, meet
from pipeline.stages.audit_expert_targets import Target
from schemas.boxes import Box
from schemas.errors import ExpertError, InputError, UsageError
from schemas.reader import Store
from schemas.records import ExpertCall
from tests.pipeline.scripted_truths import AWAY, SPOT, TellingExpert, measured, spotted, store_of
from tests.pipeline.small_stores import INGEST, SEARCHED, asked, drawn_image, put_questions, put_searches

# says c of n boxes and is right for k: (c, k, n, what the first drill says)
HABITS = [(0.125, 1, 8, 0.25), (0.375, 4, 8, 0.125), (0.625, 2, 4, 0.75), (0.875, 3, 4, 0.96875)]
SCRIPT = [(c, at < k, after) for c, k, n, after in HABITS for at in range(n)]


def recorded(store: Store, expert: TellingExpert, **config: object) -> None:
    """The trajectories of a real search beside the questions."""
    questions = store.snapshot().records("questions")
    items = [
        SearchItem(one, tuple(SearchImage(each, (64, 48), lambda: None) for each in one.image_ids)) for one in questions
    ]
    put_searches(store, search(items, expert, SearchConfig(**config), source="drawn", seed=7))


def test_the_ece_of_a_scripted_expert_equals_its_closed_form(tmp_path: Path):
    """Σ n/N · |c − k/n| over its habits, each of them in a bin of its own."""
    report = measured(store_of(tmp_path / "store", len(SCRIPT)), TellingExpert(SCRIPT))
    n = sum(habit[2] for habit in HABITS)
    scan, drill = report.worth.scan, report.worth.drill
    assert (scan.n, scan.n_true) == (n, sum(habit[1] for habit in HABITS)) == (24, 10)
    assert abs(scan.ece - sum(m / n * abs(c - k / m) for c, k, m, _ in HABITS)) <= 1e-12
    assert abs(drill.drilled.ece - sum(m / n * abs(after - k / m) for _, k, m, after in HABITS)) <= 1e-12
    assert abs(drill.ece_gain - (drill.drilled.ece - drill.scanned.ece)) <= 1e-12
    brier = sum(k * (1 - c) ** 2 + (m - k) * c**2 for c, k, m, _ in HABITS) / n
    assert abs(scan.brier - brier) <= 1e-12
    assert drill.scanned == scan  # every box was drilled
    assert {one.share.value for one in report.worth.recall} == {10 / 24}


def test_asked_and_recorded_are_measured_alike(tmp_path: Path):
    store = store_of(tmp_path / "store", len(SCRIPT))
    expert = TellingExpert(SCRIPT)
    now = measured(store, expert)
    recorded(store, expert, navigator=NavigatorConfig(1e9, 1.0, 4), sampler=SamplerConfig(variants=0))
    snapshot = store.snapshot()
    then = audit_recorded(snapshot, snapshot.slice(SEARCHED), Which())
    assert then.worth == now.worth
    assert (now.how, then.how) == ("asked", "recorded")
    assert then.questions == now.questions
    assert {name: then.cost[name] for name in ("calls", "scans", "drills")} == {"calls": 48, "scans": 24, "drills": 24}
    assert "seconds" in now.cost
    assert "seconds" not in then.cost  # nobody took the time then


def test_cost_is_told_per_question(tmp_path: Path):
    cost = measured(store_of(tmp_path / "store", 4), TellingExpert(SCRIPT)).cost
    assert (cost["calls"], cost["counted_n_requests"], cost["counted_tokens_in"]) == (8, 16, 80)
    each = cost["per_question"]
    assert (each["calls"], each["scans"], each["drills"], each["counted_n_requests"]) == (2, 1, 1, 4)
    assert "counted_cost" not in cost  # without prices there is none


def test_a_privileged_expert_is_measured_and_the_report_says_so(tmp_path: Path):
    store = store_of(tmp_path / "store", 3)
    told = measured(store, TellingExpert([(1.0, True, 1.0)], privileged=True))
    assert (told.privileged, told.rules[0]) == (True, PRIVILEGED)
    assert {one.share.value for one in told.worth.recall} == {1.0}
    assert PRIVILEGED not in measured(store, TellingExpert([(1.0, True, 1.0)])).rules


def test_a_failed_scan_is_counted_and_measured_nowhere(tmp_path: Path):
    """That there is no answer does not say that nothing was found."""
    store = store_of(tmp_path / "store", 4)
    report = measured(store, TellingExpert([(0.5, True, 0.75)], fails=frozenset({1}), mute=frozenset({2})))
    assert (report.questions["measured"], report.questions["failed"]) == (3, 1)
    assert (report.failures, report.provenances) == ({"timeout": 1}, {"drawn": 3})
    assert (report.worth.n_regions, report.worth.recall[0].share.value) == (3, 1.0)
    assert (report.questions["drills_mute"], report.worth.drill.drilled.n) == (1, 2)


def test_without_one_answer_there_is_no_report(tmp_path: Path):
    store = store_of(tmp_path / "store", 2)
    with pytest.raises(ExpertError, match="answered none") as told:
        measured(store, TellingExpert([None], fails=frozenset({0, 1})))
    assert "timeout 2" in str(told.value)


def test_questions_that_a_slice_never_asked_are_counted(tmp_path: Path):
    store = store_of(tmp_path / "store", 6)
    images = [drawn_image(number) for number in range(3)]
    part = Store(tmp_path / "part")
    put_questions(part, images, [asked(number, image, regions=spotted(SPOT)) for number, image in enumerate(images)])
    recorded(part, TellingExpert([(0.5, True, 0.75)]))
    calls = part.snapshot().records("expert_calls")
    recorded(store, TellingExpert([(0.5, True, 0.75)]))
    found = search([], TellingExpert([]), SearchConfig(), source="drawn", seed=0)
    put_searches(store, replace(found, calls=tuple(calls)))
    snapshot = store.snapshot()
    report = audit_recorded(snapshot, snapshot.slice(SEARCHED), Which())
    assert (report.questions["measured"], report.questions["unasked"]) == (3, 3)


def test_answers_to_other_questions_are_not_measured(tmp_path: Path):
    store = store_of(tmp_path / "store", 3)
    recorded(store, TellingExpert([(0.5, True, 0.75)]))
    commit(store, lambda before: replace(before, inputs={INGEST: "0" * 64}), SEARCHED)
    snapshot = store.snapshot()
    with pytest.raises(InputError, match="was made from another"):
        audit_recorded(snapshot, snapshot.slice(SEARCHED), Which())
    with pytest.raises(UsageError, match="holds no answers"):
        audit_recorded(snapshot, snapshot.slice(INGEST), Which())


def test_the_sample_is_drawn_by_question_and_seed(tmp_path: Path):
    store = store_of(tmp_path / "store", 12)

    def sample(n: int, seed: int = 0) -> list[str]:
        expert = TellingExpert([(0.5, True, 0.75)])
        report = measured(store, expert, Which(n_questions=n, seed=seed))
        assert (report.questions["annotated"], report.questions["measured"]) == (12, n)
        return sorted(expert.asked)

    assert sample(5) == sample(5)
    assert set(sample(5)) < set(sample(8))  # more are these and others
    assert sample(5) != sample(5, seed=1)


def test_of_several_images_those_with_the_region_count(tmp_path: Path):
    """The second image of each question bears the spot; what is said of the first is neither right nor wrong."""
    images = [drawn_image(number) for number in range(6)]
    ids = [image.image_id for image in images]
    questions = [
        asked(number, images[0], image_ids=(ids[number], ids[number + 3]), regions=spotted(SPOT, image=1))
        for number in range(3)
    ]
    store = Store(tmp_path / "store")
    put_questions(store, images, questions)
    report = measured(store, TellingExpert([(0.5, True, 0.75)]))
    assert (report.questions["images"], report.worth.n_regions, report.worth.n_boxes) == (3, 3, 3)
    assert {one.share.value for one in (*report.worth.recall, *report.worth.precision)} == {1.0}
    assert report.cost["scans"] == 6


def test_two_boxes_on_one_image_widen_the_interval(tmp_path: Path):
    """Two regions found or missed together on each of 8 images: not 16 independent ones."""
    found = [(0.5, True, 0.5), (0.5, False, 0.5)]
    one = measured(store_of(tmp_path / "one", 16), TellingExpert(found)).worth.recall[1].share
    image = drawn_image(0)
    other = Store(tmp_path / "other")
    questions = [asked(number, image, regions=spotted(SPOT)) for number in range(16)]
    put_questions(other, [image], questions)
    both = measured(other, TellingExpert(found)).worth.recall[1].share
    assert (one.value, one.n, one.n_clusters) == (0.5, 16, 16)
    assert (both.value, both.n, both.n_clusters) == (0.5, 16, 1)
    assert both.high - both.low > one.high - one.low


def call(mode: str, *candidates: tuple[Box, str, float], box: Box | None = None, round_: int = 0) -> ExpertCall:
    look = None if box is None else (0.0, 0.0, 64.0, 48.0)
    return ExpertCall(
        f"{mode}{box}{round_}", "drawn-0000", "i", "telling", mode, round_, box, look, "", "", candidates, None
    )


def met(*calls: ExpertCall) -> Met:
    one = asked(0, drawn_image(0), image_ids=("i",))
    return meet([Target(one, {"i": ((SPOT,),)})], {"i": (64, 48)}, calls)


def test_a_drill_is_compared_with_the_surest_candidate_in_its_box_and_only_the_first_round_counts():
    scan = call("scan", (SPOT, "spot", 0.25), (SPOT, "mass", 0.5), (AWAY, "spot", 0.75))
    first, second = (call("drill", (SPOT, "", after), box=SPOT, round_=at) for at, after in ((1, 0.625), (2, 0.875)))
    found = met(scan, first, second)
    assert [(one.before, one.after, one.is_true) for one in found.drilled] == [(0.5, 0.625, True)]
    assert [len(one.found) for one in found.scanned] == [3]


@pytest.mark.parametrize(("high", "is_true"), [(2.9, False), (3.1, True)])
def test_a_drill_is_at_a_region_where_its_box_overlaps_it_well(high, is_true):
    box = (10.0, 10.0, 20.0, 10.0 + high)  # of a spot of 10 by 10
    (one,) = met(call("scan", (box, "spot", 0.5)), call("drill", (box, "", 0.75), box=box, round_=1)).drilled
    assert one.is_true is is_true


def test_a_drill_at_a_box_that_no_scan_named_has_no_before():
    found = met(call("scan", (AWAY, "spot", 0.5)), call("drill", (SPOT, "", 0.5), box=SPOT, round_=1))
    assert (found.drilled, found.n_unscanned) == ((), 1)


def test_what_was_scanned_again_counts_with_the_first_scan():
    again = replace(call("scan", (SPOT, "spot", 0.5)), call_id="again")
    assert [len(one.found) for one in met(call("scan", (AWAY, "spot", 0.5)), again).scanned] == [2]
