"""Near copies, as findings: within a source, across the splits of one, across sources, and in families of sources.

Pictures with equal pixels count as one here, the checks in SQL count those. What is to review is for a person to judge:
two patients in one position may look alike.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import nsmallest
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.near_duplicates import FORMS, TIERS, Pairs, near_pairs, prints
from pipeline.stages.audit_storage import Offence
from schemas.records import Hashes

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

HASHES = ("pdq", "pdq_mirror", "pdq_trimmed", "phash", "phash_mirror", "phash_trimmed")
PICTURES = f"""
SELECT coalesce(pixel_sha256, image_id) AS pixels, {", ".join(f"min({name})" for name in HASHES)}
FROM images
GROUP BY pixels
ORDER BY pixels
"""
HOMES = """
SELECT pixels, source, '' AS split, min(name) AS name FROM pictures GROUP BY ALL
UNION ALL
SELECT pixels, source, split, min(name) FROM asked_pictures GROUP BY ALL
"""
SPLIT_ORDER = "SELECT split, other_split FROM split_order ORDER BY ALL"
FAMILIES = "SELECT family, sources FROM families ORDER BY family"
SHARED = """
SELECT one, other, count(DISTINCT pixels)
FROM (
    SELECT one.source AS one, other.source AS other, pixels
    FROM pictures AS one JOIN pictures AS other USING (pixels)
    UNION
    SELECT one.source, other.source, one.pixels
    FROM pictures AS one JOIN pictures AS other USING (origin)
)
WHERE one < other
GROUP BY ALL
"""
NAMED = 10  # nearest pairs that a source's finding names

Home = tuple[str, str]  # source and split; split "" stands for the whole source
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class NearCopies:
    """What one go over all pairs found: numbers, not the pairs themselves, but for the nearest of each source."""

    homes: dict[Home, Flags]  # which pictures are there
    names: dict[tuple[str, int], str]  # a picture's name in a source
    n_pairs: Counter[tuple[str, int]]  # by source and tier
    touched: dict[tuple[Home, Home, int], Flags]  # pictures of the first home with a near copy in the second, by tier
    nearest: dict[str, list[tuple[int, ...]]]  # of a source: (tier, PDQ distance, first, second, form, pHash distance)

    @property
    def sources(self) -> list[str]:
        return sorted(source for source, split in self.homes if not split)


def near_copies(con: "DuckDBPyConnection") -> NearCopies:
    """All pairs of distinct pictures of the store compared, and told by where they are."""
    rows = con.execute(PICTURES).fetchall()
    number = {row[0]: index for index, row in enumerate(rows)}
    found = NearCopies({}, {}, Counter(), {}, {})
    for pixels, source, split, name in con.execute(HOMES).fetchall():
        if pixels in number:
            found.homes.setdefault((source, split), np.zeros(len(rows), bool))[number[pixels]] = True
            if not split:
                found.names[source, number[pixels]] = name
    for pairs in near_pairs(prints([Hashes(*row[1:]) for row in rows])):
        for source in found.sources:
            _count_within(found, pairs, source)
        for one, other in product(found.homes, repeat=2):
            if bool(one[1]) == bool(other[1]) and one != other:
                _touch(found, pairs, one, other)
    return found


def _count_within(found: NearCopies, pairs: Pairs, source: str) -> None:
    is_in = found.homes[source, ""]
    own = np.nonzero(is_in[pairs.first] & is_in[pairs.second])[0]
    for tier in range(len(TIERS)):
        found.n_pairs[source, tier] += int((pairs.tier[own] == tier).sum())
    columns = (pairs.tier, pairs.pdq_distance, pairs.first, pairs.second, pairs.form, pairs.phash_distance)
    ranked = zip(*(column[own].tolist() for column in columns), strict=True)
    found.nearest[source] = nsmallest(NAMED, [*found.nearest.get(source, ()), *ranked])


def _touch(found: NearCopies, pairs: Pairs, one: Home, other: Home) -> None:
    is_in, is_in_other = found.homes[one], found.homes[other]
    for a, b in ((pairs.first, pairs.second), (pairs.second, pairs.first)):
        is_met = is_in[a] & is_in_other[b]
        for tier in range(len(TIERS)) if is_met.any() else ():
            flags = found.touched.setdefault((one, other, tier), np.zeros(len(is_in), bool))
            flags[a[is_met & (pairs.tier == tier)]] = True


def within_sources(found: NearCopies) -> Iterator[Offence]:
    """Pairs of near copies in each source, and the nearest of them by name."""
    for source in found.sources:
        certain, review = (found.n_pairs[source, tier] for tier in range(len(TIERS)))
        if certain + review:
            n_pictures = int(found.homes[source, ""].sum())
            detail = f"{certain} pairs are near copies for certain and {review} are to review, of {n_pictures} pictures"
            yield Offence(source, detail, certain + review)
        for rank, (tier, pdq, first, second, form, phash) in enumerate(found.nearest.get(source, ())):
            pair = f"{found.names[source, first]} and {found.names[source, second]}"
            how = f"{TIERS[tier]}, {FORMS[form]}: PDQ {pdq} of 256 bits apart, pHash {phash} of 64"
            yield Offence(f"{source} pair {rank + 1:02d}", f"{pair} ({how})", 0)


def across_splits(found: NearCopies, order: Iterable[tuple[str, str]]) -> Iterator[Offence]:
    """Pictures of a split that have a near copy in a split they must not know."""
    for source in found.sources:
        for split, other in order:
            yield from _leaks(found, (source, split), (source, other), f"{source} {split}", f"in {other}")


def across_sources(found: NearCopies) -> Iterator[Offence]:
    """Pictures of a source that have a near copy in another one; and of its late splits, in the other's train."""
    for one in found.sources:
        for other in found.sources:
            if one < other:
                yield from _leaks(found, (one, ""), (other, ""), f"{one} {other}", f"of {one} in {other}")
            for split in ("test", "validation") if one != other else ():
                yield from _leaks(found, (one, split), (other, "train"), f"{one} {split}", f"in train of {other}")


def _leaks(found: NearCopies, one: Home, other: Home, key: str, where: str) -> Iterator[Offence]:
    certain, any_ = _touched(found, one, other)
    if any_:
        of = int(found.homes[one].sum())
        detail = f"{certain} of {of} pictures have a certain near copy {where}, {any_ - certain} more one to review"
        yield Offence(key, detail, any_)


def _touched(found: NearCopies, one: Home, other: Home) -> tuple[int, int]:
    """Pictures of `one` with a certain near copy in `other`, and with any."""
    none = np.zeros(1, bool)
    certain, review = (found.touched.get((one, other, tier), none) for tier in range(2))
    return int(certain.sum()), int((certain | review).sum())


def families(con: "DuckDBPyConnection", found: NearCopies) -> Iterator[Offence]:
    """Families of sources of which the store holds two or more, with what they were found to have in common."""
    shared = {(one, other): n for one, other, n in con.execute(SHARED).fetchall()}
    for family, members in con.execute(FAMILIES).fetchall():
        held = sorted(set(members) & set(found.sources))
        if len(held) > 1:
            pairs = [(one, other) for one in held for other in held if one < other]
            near = [_touched(found, (one, ""), (other, "")) for one, other in pairs]
            n_shared = sum(shared.get(pair, 0) for pair in pairs)
            detail = (
                f"{', '.join(held)} were made from one pool; in common here: {n_shared} pictures by pixels or origin, "
                f"{sum(certain for certain, _ in near)} by certain near copies, "
                f"{sum(any_ - certain for certain, any_ in near)} to review; make splits over the whole family"
            )
            yield Offence(family, detail, len(held))
