from collections import Counter, defaultdict

import pytest

from pipeline.core.phantom_questions import (
    CROP_ONLY_TYPES,
    CYCLES,
    FINDINGS,
    LEVELS,
    VOCABULARY_LINES,
    plan,
    twin,
)

N_IMAGES = 1000


def plans(level, n=N_IMAGES, seed=3):
    return [plan(seed, index, level) for index in range(n)]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("L0", {"pattern": 900, "side": 300}),
        ("L1", {"pattern": 600, "presence": 400, "side": 100, "kind": 100}),
    ],
)
def test_how_much_of_a_level_can_only_be_answered_in_a_crop(level, expected):
    assert Counter(planned.question.question_type for planned in plans(level, 1200)) == expected


@pytest.mark.parametrize("level", LEVELS)
def test_every_hand_of_a_template_holds_each_answer_once(level):
    cycle = CYCLES[level]
    answers = defaultdict(list)
    for index, planned in enumerate(plans(level)):
        answers[cycle[index % len(cycle)]].append(planned.question.answer)
    for template, given in answers.items():
        size = 3 if template == "count" else 2
        hands = [given[start : start + size] for start in range(0, len(given) - size + 1, size)]
        assert all(len(set(hand)) == size for hand in hands), template
        assert len(set(map(tuple, hands))) > 1, f"{template}: the order within a hand never changes"


@pytest.mark.parametrize("level", LEVELS)
def test_the_wording_alone_never_tells_the_answer(level):
    by_text = defaultdict(Counter)
    for planned in plans(level):
        by_text[planned.question.text][planned.question.answer] += 1
    for text, answers in by_text.items():
        assert max(answers.values()) - min(answers.values()) <= 1, text
        assert len(answers) == (3 if text.startswith("How many") else 2), text


@pytest.mark.parametrize("level", LEVELS)
def test_question_and_findings_agree(level):
    for planned in plans(level, 300):
        question, findings = planned.question, planned.findings
        asked = [finding for finding in findings if finding.is_asked]
        match question.question_type:
            case "pattern" | "margin":
                assert [finding.has_texture for finding in asked] == [question.answer == "yes"]
                assert f"the {asked[0].kind}" in question.text
                same = [finding for finding in findings if finding.kind == asked[0].kind]
                assert len(same) == 1 or f"on the {asked[0].side}" in question.text
            case "side":
                assert [finding.side for finding in asked] == [question.answer]
            case "presence":
                named = [finding for finding in findings if finding.kind in question.text]
                assert bool(named) == (question.answer == "yes")
            case "kind":
                assert [finding.kind for finding in asked] == [question.answer]
            case "count":
                assert sum(finding.kind == "nodule" for finding in findings) == int(question.answer)
            case "larger":
                low, high = sorted(asked, key=lambda finding: finding.size_range_px)
                assert {low.kind, high.kind} == {"nodule"}
                assert low.size_range_px[1] < high.size_range_px[0]
                assert high.side == question.answer != low.side


@pytest.mark.parametrize(("level", "n_findings"), [("L1", {0, 1}), ("L2", {2}), ("L3", {3}), ("hard", {1})])
def test_a_level_is_its_number_of_findings(level, n_findings):
    assert {len(planned.findings) for planned in plans(level)} == n_findings


def test_l2_needs_the_side():
    others = Counter()
    for planned in plans("L2", 400):
        assert {finding.side for finding in planned.findings} == {"left", "right"}
        if planned.question.question_type == "pattern":
            asked, other = sorted(planned.findings, key=lambda finding: not finding.is_asked)
            assert asked.kind == other.kind
            others[asked.has_texture, other.has_texture] += 1
    assert min(others.values()) > 50, "the other finding's pattern must be independent"


def test_presence_asks_about_every_kind_and_no_may_mean_nothing_at_all():
    presence = [planned for planned in plans("L1", 2400) if planned.question.question_type == "presence"]
    assert {kind for kind in FINDINGS for planned in presence if kind in planned.question.text} == set(FINDINGS)
    assert {len(planned.findings) for planned in presence if planned.question.answer == "no"} == {0, 1}


def test_vocabulary_lines_are_exactly_what_is_ever_asked_and_answered():
    texts, answers = set(), set()
    for level in LEVELS:
        for planned in plans(level):
            texts.add(planned.question.text)
            answers |= {planned.question.answer, *planned.question.options}
    assert texts | answers == set(VOCABULARY_LINES)
    assert len(VOCABULARY_LINES) == len(set(VOCABULARY_LINES))


def test_the_article_fits_its_noun():
    texts = {planned.question.text for planned in plans("L1") if planned.question.question_type == "presence"}
    assert "Is there an effusion?" in texts
    assert "Is there a nodule?" in texts


def test_twin_turns_the_asked_finding_and_the_answer_only():
    for planned in plans("L2", 30):
        if planned.question.question_type not in CROP_ONLY_TYPES:
            with pytest.raises(ValueError, match="have twins"):
                twin(planned)
            continue
        other = twin(planned)
        assert {planned.question.answer, other.question.answer} == {"yes", "no"}
        assert [a.has_texture != b.has_texture for a, b in zip(planned.findings, other.findings, strict=True)] == [
            finding.is_asked for finding in planned.findings
        ]
        assert twin(other) == planned


@pytest.mark.parametrize(("index", "level", "what"), [(0, "L4", "level must"), (-1, "L1", "index must")])
def test_unknown_level_or_negative_index_is_refused(index, level, what):
    with pytest.raises(ValueError, match=what):
        plan(0, index, level)
