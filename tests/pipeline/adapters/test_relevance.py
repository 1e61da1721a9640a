import pytest

from pipeline.adapters.experts.relevance import is_named, is_normal, relevance, sides_named


@pytest.mark.parametrize(
    ("label", "provenance", "side", "asked", "answer", "expected"),
    [
        ("nodule", "finding", "left", "Is the nodule striped?", "yes", 0.95),  # label in the question
        ("nodule", "finding", "left", "How many Nodules are there?", "2", 0.95),  # plural, any case
        ("nodule", "finding", "left", "What is the finding?", "nodule", 0.95),  # label in the answer
        ("Nodule/Mass", "finding", "left", "Is there a tumor?", "no", 0.95),  # a synonym of a part
        ("lung cancer", "finding", "left", "Is there a lung tumor?", "no", 0.95),
        ("lung cancer", "finding", "left", "Is there liver cancer?", "no", 0.5),  # whole labels only
        ("mass", "finding", "left", "Is there a massive effusion?", "no", 0.5),  # whole words only
        ("nodule", "finding", "left", "Is the heart large?", "no", 0.5),  # another finding
        ("effusion", "finding", "left", "What lies on the left?", "air", 0.95),  # its side alone
        ("effusion", "finding", "right", "What lies on the left?", "air", 0.5),
        ("effusion", "finding", "left", "Which side is it, left or right?", "left", 0.95),  # the answer decides
        ("effusion", "finding", "right", "Which side is it, left or right?", "left", 0.5),
        ("nodule", "finding", "right", "Is the nodule on the left striped?", "yes", 0.5),  # the other one is meant
        ("nodule", "finding", "left", "Is the nodule on the left striped?", "yes", 0.95),
        ("nodule", "finding", "right", "Which is larger, the left or the right nodule?", "left", 0.95),
        ("hilum", "distractor", "left", "What lies on the left?", "air", 0.25),  # no normal structure by its side
        ("hilum", "second-reader", "left", "What lies on the left?", "air", 0.25),  # … known by its name
        ("rib crossing", "x", "left", "Is there a nodule?", "no", 0.25),
        ("anything", "anatomy", "left", "Is there a nodule?", "no", 0.25),
        ("Left Lung", "slake", "left", "Is there a nodule?", "no", 0.25),
        ("Kidneys", "slake", "left", "Is there a nodule?", "no", 0.25),
        ("Lung Cancer", "slake", "left", "Is there a nodule?", "no", 0.5),  # a finding that names an organ
        ("heart", "anatomy", "right", "Is the heart large?", "no", 0.95),  # asked about
        ("Left Lung", "slake", "left", "Is the right lung clear?", "yes", 0.25),  # the other one is
        ("", "finding", "left", "Is there a nodule?", "no", 0.5),
    ],
)
def test_relevance(label, provenance, side, asked, answer, expected):
    assert relevance(label, provenance, side, asked, answer) == expected


def test_words_of_relevance():
    assert sides_named("Left-sided or right?") == {"left", "right"}
    assert sides_named("a bright, leftover image") == set()
    assert is_named("Pleural_effusion", "any pleural effusion?")
    assert not is_named("ILD", "a child")
    assert is_normal("Left Lung, Right Lung", "x")
    assert not is_normal("", "x")
