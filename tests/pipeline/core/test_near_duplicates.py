"""Near pairs against a slow reading with whole numbers: none missed, none invented, each in its best form."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.near_duplicates import FORMS, TIERS, near_pairs, prints
from schemas.records import Hashes

FIELDS = {
    "plain": ("pdq", "phash"),
    "trimmed": ("pdq_trimmed", "phash_trimmed"),
    "mirror": ("pdq_mirror", "phash_mirror"),
}
Found = dict[tuple[int, int], tuple[str, int]]  # pair -> tier and PDQ distance


def digits(number: int, n_bits: int) -> str:
    return f"{number:0{n_bits // 4}x}"


def drawn(draw: Random) -> Hashes:
    values = [digits(draw.getrandbits(n), n) for n in (256, 256, 256, 64, 64, 64)]
    return Hashes(*values)


def flipped(hash_: str | None, n_bits: int) -> str:
    """The hash with its lowest `n_bits` bits changed."""
    assert hash_ is not None
    return digits(int(hash_, 16) ^ ((1 << n_bits) - 1), 4 * len(hash_))


def found(hashes: list[Hashes], block: int = 512) -> Found:
    pairs = [
        ((int(first), int(second)), (TIERS[tier], int(pdq)))
        for run in near_pairs(prints(hashes), block)
        for first, second, tier, pdq in zip(run.first, run.second, run.tier, run.pdq_distance, strict=True)
    ]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def forms(one: Hashes, other: Hashes) -> list[tuple[str, str, int]]:
    """Tier, form and PDQ distance of the pair, if it is near."""
    runs = near_pairs(prints([one, other]))
    return [(TIERS[run.tier[0]], FORMS[run.form[0]], int(run.pdq_distance[0])) for run in runs]


def slow(hashes: list[Hashes]) -> Found:
    pairs = {}
    for first, one in enumerate(hashes):
        for second in range(first + 1, len(hashes)):
            near = sorted(slow_near(one, hashes[second]))
            if near:
                tier, pdq = near[0]
                pairs[first, second] = (TIERS[tier], pdq)
    return pairs


def slow_near(one: Hashes, other: Hashes):
    for shape, mine in FIELDS.items():
        for other_shape, theirs in FIELDS.items():
            values = [
                getattr(one, mine[0]),
                getattr(other, theirs[0]),
                getattr(one, mine[1]),
                getattr(other, theirs[1]),
            ]
            if (shape == other_shape == "mirror") or None in values:
                continue
            a, b, c, d = (int(value, 16) for value in values)
            pdq, phash = (a ^ b).bit_count(), (c ^ d).bit_count()
            for near_pdq, near_phash in ((pdq, phash), (256 - pdq, 64 - phash)):
                if near_pdq <= 70 or near_phash <= 8:
                    yield int(near_pdq > 31), near_pdq


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 14), st.sampled_from([1, 3, 512]))
def test_all_near_pairs_and_no_others(seed: int, n: int, block: int):
    draw = Random(seed)
    hashes = [drawn(draw) for _ in range(n)]
    for _ in range(n):  # copy a hash of one picture, changed a little or inverted, to another one
        source, target = draw.randrange(n), draw.randrange(n)
        (pdq, phash), (to_pdq, to_phash) = draw.choice(list(FIELDS.values())), draw.choice(list(FIELDS.values()))
        mask = draw.choice([0, (1 << 256) - 1]) ^ ((1 << draw.choice([0, 5, 31, 32, 70, 71])) - 1)
        changed = {to_pdq: digits(int(getattr(hashes[source], pdq), 16) ^ mask, 256)}
        if draw.random() < 0.5:
            changed[to_phash] = flipped(getattr(hashes[source], phash), draw.choice([0, 8, 9]))
        hashes[target] = replace(hashes[target], **changed)
    assert found(hashes, block) == slow(hashes)
    turned = {(n - 1 - second, n - 1 - first): near for (first, second), near in found(hashes[::-1], block).items()}
    assert turned == found(hashes, block)


@pytest.mark.parametrize(
    ("n_bits", "tier"), [(0, "certain"), (31, "certain"), (32, "review"), (70, "review"), (71, None)]
)
def test_the_limits_of_pdq(n_bits: int, tier: str | None):
    one, other = drawn(Random(1)), drawn(Random(2))
    other = replace(other, pdq=flipped(one.pdq, n_bits))
    assert forms(one, other) == ([] if tier is None else [(tier, "as is", n_bits)])


@pytest.mark.parametrize(("n_bits", "is_near"), [(8, True), (9, False)])
def test_phash_alone_is_for_review(n_bits: int, is_near: bool):
    one, other = drawn(Random(1)), drawn(Random(2))
    other = replace(other, phash_mirror=flipped(one.phash, n_bits))
    assert [pair[:2] for pair in forms(one, other)] == [("review", "mirror")] * is_near


@pytest.mark.parametrize(
    ("mine", "theirs", "form"),
    [
        ("pdq", "pdq", "as is"),
        ("pdq", "pdq_mirror", "mirror"),
        ("pdq_mirror", "pdq", "mirror"),
        ("pdq", "pdq_trimmed", "trimmed"),
        ("pdq_trimmed", "pdq_trimmed", "trimmed"),
        ("pdq_trimmed", "pdq_mirror", "mirror and trimmed"),
    ],
)
def test_the_form_of_a_pair_is_named(mine: str, theirs: str, form: str):
    one, other = drawn(Random(1)), drawn(Random(2))
    value = getattr(one, mine)
    assert forms(one, replace(other, **{theirs: value})) == [("certain", form, 0)]
    inverse = digits(int(value, 16) ^ ((1 << 256) - 1), 256)
    named = "inverse" if form == "as is" else f"{form}; inverse"
    assert forms(one, replace(other, **{theirs: inverse})) == [("certain", named, 0)]


def test_two_mirrored_pictures_are_found_as_they_are_or_not_at_all():
    one, other = drawn(Random(1)), drawn(Random(2))
    assert forms(one, replace(other, pdq_mirror=one.pdq_mirror)) == []


def test_pictures_without_hashes_are_near_to_nothing():
    nothing = Hashes()
    assert found([nothing, nothing, nothing]) == {}
    assert found([]) == {}
    one = drawn(Random(1))
    assert found([nothing, one, nothing, one]) == {(1, 3): ("certain", 0)}
