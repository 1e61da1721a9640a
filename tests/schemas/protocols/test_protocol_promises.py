"""What holds for every protocol: any text gets a verdict, the same one twice, and only on questions it defines."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.answers import judge
from schemas.errors import UsageError
from schemas.protocols.options import gold_letter
from schemas.protocols.registry import PROTOCOLS, protocol_named
from tests.schemas.protocols.asking import SCANS, asked, choice

SOURCES = ("vqa-rad", "path-vqa", "slake", "pmc-vqa", "omnimedvqa", "medxpertqa", "mmmu")
QUESTIONS = [
    *(
        asked(source, answer, answer_type=label)
        for source in SOURCES
        for answer in ("No", "lung", "0.5")
        for label in ("OPEN", "CLOSED")
    ),
    *(choice(source) for source in SOURCES),
]
PIECES = [
    "yes",
    "no",
    "B",
    "(B)",
    "\\boxed{",
    "}",
    "<answer>",
    "</answer>",
    "answer is ",
    "\n\n",
    ".",
    "(",
    "3,0",
    "正常",
]
texts = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=8).map("".join))


def covered(protocol):
    return [question for question in QUESTIONS if protocol.part(question) is not None]


@pytest.mark.parametrize("name", PROTOCOLS)
@settings(max_examples=40, deadline=None)
@given(text=texts, data=st.data())
def test_any_text_gets_one_verdict(name, text, data):
    protocol = PROTOCOLS[name]
    question = data.draw(st.sampled_from(covered(protocol)))
    verdict = protocol.judge(text, question)
    assert verdict == protocol.judge(text, question)
    assert 0 <= verdict.score <= 1
    assert verdict.is_correct in ((None,) if protocol.metric_of(question) == "recall" else (verdict.score == 1,))
    assert verdict.fallback is None or verdict.score == 0
    assert all(0 <= number <= 1 for _, number in verdict.also)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_an_empty_answer_earns_nothing_but_option_a(name):
    """MedEvalKit takes it for the first option, which is not the gold one here."""
    assert [question for question in covered(PROTOCOLS[name]) if PROTOCOLS[name].judge("", question).score] == []


@pytest.mark.parametrize(
    ("name", "sources"),
    [
        ("fovea", SOURCES),
        ("medevalkit", SOURCES),
        ("medevalkit-fixed", SOURCES),
        ("llava-med", ("vqa-rad", "path-vqa", "slake")),
        ("lmms-eval-slake", ("slake",)),
        ("mmmu-official", ("mmmu",)),
        ("vlmevalkit", ("omnimedvqa", "medxpertqa", "mmmu")),
        ("medxpertqa", ("medxpertqa",)),
    ],
)
def test_coverage(name, sources):
    protocol = protocol_named(name)
    assert {question.source for question in covered(protocol)} == set(sources)
    for question in QUESTIONS:
        if protocol.part(question) is None:
            with pytest.raises(UsageError, match="it covers") as raised:
                protocol.judge("B", question)
            assert protocol.covers in str(raised.value)


@pytest.mark.parametrize("name", ["medevalkit", "llava-med", "lmms-eval-slake"])
def test_a_label_that_a_rule_needs_is_asked_for(name):
    with pytest.raises(UsageError, match="no OPEN or CLOSED label"):
        PROTOCOLS[name].judge("lung", asked("slake", "lung"))


@pytest.mark.parametrize("name", ["medevalkit", "vlmevalkit", "medxpertqa"])
def test_a_gold_that_names_no_option_is_refused(name):
    with pytest.raises(UsageError, match="does not judge this question"):
        PROTOCOLS[name].judge("A", choice("medxpertqa", "Echo"))


@given(text=texts, question=st.sampled_from(QUESTIONS))
@settings(max_examples=60, deadline=None)
def test_the_default_is_the_judge_of_the_rewards(text, question):
    verdict = protocol_named("fovea").judge(text, question)
    assert verdict.is_correct is judge(text, question.answer, question.answer_kind, question.options)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match="fovea, medevalkit, medevalkit-fixed, llava-med"):
        protocol_named("medeval")


@pytest.mark.parametrize(
    ("answer", "options", "first", "last"),
    [
        ("MRI", SCANS, "B", "B"),
        (" MRI ", SCANS, "B", "B"),
        ("c", SCANS, "C", "C"),
        ("C", ("C", "K", "A"), "C", "C"),  # a letter before a text, as sources store it
        ("C", ("left", "right", "right"), "C", "C"),
        ("B", ("left", "right", "right"), "B", "C"),
        ("left", ("left", "right", "left"), "A", "C"),
        ("E", SCANS, None, None),
        ("MRI", (), None, None),
    ],
)
def test_the_gold_letter(answer, options, first, last):
    question = choice("mmmu", answer, options)
    assert (gold_letter(question), gold_letter(question, last=True)) == (first, last)
