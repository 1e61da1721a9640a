import pytest

from schemas.protocols.lmms_eval_slake import PROTOCOL
from tests.schemas.protocols.asking import asked


@pytest.mark.parametrize(
    ("gold", "response", "is_right"),
    [
        ("Yes", "yes.", True),
        ("Yes", "Yeah!", True),
        ("No", "False", True),
        ("Yes", "Yes, it does", False),
        ("No", "The lungs are normal.", False),
        ("Left Upper Lobe", "left upper lobe.", True),
        ("left lung", "the left lung", False),
        ("X-Ray", "xray", True),
        ("x ray", "X-RAY", True),
        ("x-ray", "chest x-ray", False),
        ("Lung, Spinal Cord", "lung spinal cord", True),
        ("Liver", "Liver (right lobe)", True),  # what stands in brackets does not count
        ("肺", "肺（左）。", True),
        ("包含", "是的", True),
        ("否", "没有", True),
        ("否", "无", True),
        ("是", "会", True),
        ("是", "正常", True),  # "normal" is yes there
        ("Yes", "正常", True),
        ("不是", "异常", True),
        ("T2", r"\boxed{T2}", False),
        ("T2", "<answer>T2</answer>", False),
        ("T2", "", False),
        ("(none)", "", True),  # both are nothing once the brackets are gone
    ],
)
@pytest.mark.parametrize("label", ["OPEN", "CLOSED"])
def test_answers_are_equal_or_wrong(gold, response, is_right, label):
    question = asked("slake", gold, answer_type=label)
    verdict = PROTOCOL.judge(response, question)
    assert (verdict.is_correct, verdict.score, verdict.fallback) == (is_right, float(is_right), None)
    assert PROTOCOL.part_of(question) == label.lower()
