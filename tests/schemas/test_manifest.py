"""Equal contents give equal bytes; bytes that were edited are refused."""

import hashlib
import json
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import StoreError
from schemas.manifest import EMPTY, Manifest, Part, Slice, canonical, sha256_of

PARTS = tuple(
    Part(f"data/{table}/{split}/part-{number:05d}-{'0' * 12}.parquet", table, split, "0" * 64, 100, 10, "1" * 64)
    for table, split, number in (
        ("images", "pool", 0),
        ("questions", "test", 0),
        ("questions", "test", 1),
        ("questions", "train", 0),
    )
)
SLICE = Slice(
    stage="ingest",
    source="phantom",
    name="default",
    revision=1,
    config={"seed": 0, "level": "L1", "β": None},
    expert=None,
    seed=0,
    inputs={"b": "2", "a": "1"},
    schemas={"questions": "0" * 12, "images": "1" * 12},
    licences=("CC0-1.0", "Apache-2.0"),
    parts=PARTS,
)
OTHER = replace(SLICE, name="other", parts=PARTS[:1])
MANIFEST = EMPTY.with_slice(SLICE).with_slice(OTHER)


def backwards(mapping: Any) -> Any:
    return dict(reversed(mapping.items()))


def test_order_of_keys_parts_licences_and_slices_leaves_no_trace():
    for parts in permutations(PARTS):
        turned = replace(
            SLICE,
            config=backwards(SLICE.config),
            inputs=backwards(SLICE.inputs),
            schemas=backwards(SLICE.schemas),
            licences=SLICE.licences[::-1],
            parts=parts,
        )
        assert turned.digest == SLICE.digest
        assert replace(MANIFEST, slices={OTHER.key: OTHER, turned.key: turned}).to_bytes() == MANIFEST.to_bytes()


def test_the_spelling_is_pinned():
    """A new spelling gives every store a new digest: only with a new `FORMAT`."""
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}\n'.encode()
    assert EMPTY.to_bytes() == b'{"format":"fovea/1","parent":null,"slices":{},"version":0}\n'
    assert MANIFEST.digest == "8bb7ec13101c6d3c13a3f0aa9ca5c1721c6adccc53a963714c66a029288377b9"


def test_nothing_that_is_not_json_gets_in():
    with pytest.raises(ValueError, match="not JSON compliant"):
        sha256_of({"rate": float("nan")})


def test_bytes_and_manifest_are_one():
    data = MANIFEST.to_bytes()
    back = Manifest.from_bytes(data)
    assert (back.to_bytes(), back.digest) == (data, hashlib.sha256(data).hexdigest())
    assert back.slices[SLICE.key].parts == PARTS
    assert list(json.loads(data)["slices"]) == sorted(MANIFEST.slices)


def test_the_next_version_names_its_parent_and_changes_one_slice():
    new = replace(SLICE, seed=1)
    following = MANIFEST.with_slice(new)
    assert (following.version, following.parent) == (MANIFEST.version + 1, MANIFEST.digest)
    assert following.slices == {SLICE.key: new, OTHER.key: OTHER}
    assert MANIFEST.slices[SLICE.key] == SLICE


def test_parts_come_in_a_fixed_order_whatever_order_they_are_kept_in():
    shuffled = replace(MANIFEST, slices={OTHER.key: OTHER, SLICE.key: replace(SLICE, parts=PARTS[::-1])})
    assert shuffled.parts() == [(SLICE.key, part) for part in PARTS] + [(OTHER.key, PARTS[0])]
    assert shuffled.parts("questions") == [(SLICE.key, part) for part in PARTS[1:]]
    assert (SLICE.rows("questions"), SLICE.rows("questions", "train"), SLICE.rows("rejects")) == (30, 10, 0)


def edited(**changes: Any) -> bytes:
    return canonical(json.loads(MANIFEST.to_bytes()) | changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"format"',
        b"[" * 100_000,
        b"\xff",
        MANIFEST.to_bytes()[:-1],
        MANIFEST.to_bytes() + b"\n",
        MANIFEST.to_bytes().replace(b":", b": ", 1),
        edited(format="fovea/9"),
        edited(slices=[]),
        edited(slices={"a": 1}),
        edited(slices={SLICE.key: OTHER.to_json()}),
        edited(slices={SLICE.key: SLICE.to_json() | {"when": "today"}}),
        edited(slices={SLICE.key: SLICE.to_json() | {"parts": [[]]}}),
        edited(slices={SLICE.key: SLICE.to_json() | {"licences": 5}}),
        edited(host="here"),
        canonical({"format": "fovea/1", "version": 1}),
    ],
)
def test_what_is_no_manifest_is_refused_by_name(data: bytes):
    with pytest.raises(StoreError) as caught:
        Manifest.from_bytes(data, where="store/manifests/v7.json")
    assert caught.value.where == "store/manifests/v7.json"
    assert caught.value.fix


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(MANIFEST.to_bytes()) - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(place: int, change: int):
    data = bytearray(MANIFEST.to_bytes())
    data[place] ^= change
    try:
        changed = Manifest.from_bytes(bytes(data))
    except StoreError:
        return
    assert changed.digest != MANIFEST.digest
