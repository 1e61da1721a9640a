"""Rows judged by their words: what is text, which order, what a digest covers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.sources import drafts
from pipeline.adapters.sources.drafts import Draft, Picture, Problem
from schemas.errors import InputError
from schemas.records import Image, Question, Region


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("Yes", "Yes"),
        (" 4 cm\t\r\n", "4 cm"),
        ("\u00a0no\u00a0", "no"),
        (4, "4"),
        (0, "0"),
        (2.5, "2.5"),
        ("   ", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
        ({"a": 1}, None),
        (float("nan"), None),
        (float("inf"), None),
        ("half a pair \ud800", None),
    ],
)
def test_text_of(cell, text):
    assert drafts.text_of(cell) == text


def test_natural_order():
    names = ["xmlab10/source.jpg", "xmlab2/source.jpg", "xmlab2/a.jpg", "10", "9", "a", ""]
    ordered = ["", "9", "10", "a", "xmlab2/a.jpg", "xmlab2/source.jpg", "xmlab10/source.jpg"]
    assert sorted(names, key=drafts.natural) == ordered


@given(st.lists(st.text(max_size=6)))
@settings(max_examples=50, deadline=None)
def test_natural_order_never_fails(names):
    assert len(sorted(names, key=drafts.natural)) == len(names)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_json_in_any_unicode_encoding(tmp_path, encoding, newline):
    rows = [{"answer": "否"}, {"answer": "é"}]
    text = json.dumps(rows, ensure_ascii=False, indent=1).replace("\n", newline)
    (tmp_path / "rows.json").write_bytes(text.encode(encoding))
    assert drafts.json_list(tmp_path / "rows.json") == rows


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'[{"qid": 1}, {"qi', "Unterminated"),
        (b"", "Expecting value"),
        (b'{"qid": 1}', "expected a JSON list of rows, found dict"),
        (b"null", "found NoneType"),
        (b'[{"answer": "\xff"}]', "decode"),
        (b"[" * 200_000, "recursion"),
    ],
)
def test_a_broken_json_file_is_refused_by_name(tmp_path, data, what):
    path = tmp_path / "rows.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=what) as caught:
        drafts.json_list(path)
    assert caught.value.where == str(path)


def test_a_missing_json_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        drafts.json_list(tmp_path / "rows.json")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "a/../../x.jpg", "x\0.jpg"])
def test_a_row_cannot_name_a_file_outside_the_folder(name):
    found = drafts.draft("f#0", {"image": name}, image="image", needs=(), make=lambda texts: pytest.fail("was read"))
    assert isinstance(found.outcome, Problem)
    assert (found.outcome.error_class, found.image_names) == ("unsafe_path", ())


def question(number):
    return Question(f"s/{number}", "s", "train", (), "q", "a", "open")


def test_the_first_of_two_equal_ids_stays():
    rows = [Draft(f"f#{place}", ("x.jpg",), question(number)) for place, number in enumerate([1, 2, 1])]
    kept = drafts.without_repeats([*rows, Draft("f#3", ("x.jpg",), Problem("missing_answer", ""))])
    assert [row.outcome for row in kept[:2]] == [question(1), question(2)]
    assert kept[2].outcome == Problem("duplicate_qid", "s/1 is taken by f#0")
    assert kept[3].outcome.error_class == "missing_answer"


def test_shards_are_runs_of_64_images_with_all_their_rows():
    rows = [Draft(f"f#{place}", (f"x{place % 70}.jpg",), question(place)) for place in range(210)]
    found = drafts.shards(rows, ["x3.jpg", "unasked.jpg"], modality={"x3.jpg": "CT"})
    assert [len(shard.payload) for shard in found] == [64, 7]
    assert [shard.key for shard in found] == ["00000", "00001"]
    groups = [group for shard in found for group in shard.payload]
    assert [group.image_name for group in groups] == ["unasked.jpg", *(f"x{place}.jpg" for place in range(70))]
    assert [len(group.drafts) for group in groups] == [0] + [3] * 70
    assert [group.modality for group in groups if group.modality] == ["CT"]


def test_a_digest_covers_rows_files_and_their_absence(tmp_path):
    def of(row, data):
        (tmp_path / "x.jpg").unlink(missing_ok=True)
        if data is not None:
            (tmp_path / "x.jpg").write_bytes(data)
        shard = drafts.shards([Draft("f#0", ("x.jpg",), row)], [], modality={})[0]
        return drafts.digest(shard, tmp_path, ["x.jpg"])

    seen = [of(question(1), b"1"), of(question(2), b"1"), of(question(1), b"2"), of(question(1), None)]
    seen += [of(Problem("missing_answer", ""), b"1"), of(question(1), b"")]
    assert len(set(seen)) == 6
    assert of(question(1), b"1") == seen[0]


def picture(name, *, patient=None):
    image = Image(f"id of {name}", b"", name, 8, 8, None, "", "s", "CC0-1.0", patient_key=patient)
    return Picture(image, (Region((0, 0, 4, 4), f"on {name}", "drawn"),))


def test_a_question_about_several_images_has_the_regions_of_each_under_its_number():
    rows = [Draft("f#0", ("b.jpg", "a.jpg"), question(0)), Draft("f#1", ("a.jpg",), question(1))]
    (shard,) = drafts.shards(rows, ["a.jpg", "b.jpg"], modality={})
    found = drafts.gather("s", shard, lambda group: picture(group.image_name, patient="p"))
    by_id = {one.question_id: one for one in found.questions}
    assert by_id["s/0"].image_ids == ("id of b.jpg", "id of a.jpg")
    assert [(region.image, region.label) for region in by_id["s/0"].regions] == [(0, "on b.jpg"), (1, "on a.jpg")]
    assert by_id["s/0"].patient_key == "p"
    assert {image.path for image in found.images} == {"a.jpg", "b.jpg"}


def test_one_missing_image_costs_the_question_and_keeps_the_other_image():
    (shard,) = drafts.shards([Draft("f#0", ("a.jpg", "b.jpg"), question(0))], [], modality={})
    gone = Problem("missing_image", "no file b.jpg")
    found = drafts.gather("s", shard, lambda group: gone if group.image_name == "b.jpg" else picture("a.jpg"))
    assert [reject.message for reject in found.rejects] == ["no file b.jpg"]
    assert [image.path for image in found.images] == ["a.jpg"]
    assert not found.questions


def test_images_of_two_patients_give_a_question_none():
    (shard,) = drafts.shards([Draft("f#0", ("a.jpg", "b.jpg"), question(0))], [], modality={})
    found = drafts.gather("s", shard, lambda group: picture(group.image_name, patient=group.image_name))
    assert found.questions[0].patient_key is None
