"""Which tokens the rows of one group have in common: a tree whose root is the prompt.

Pure planning, no tensors. A node is run once for all rows that pass through it; what is left of each row is a leaf.
Two tokens are one only if their ids, the image they show (all placeholders share one id) and the stream that wrote
them agree, since the denominator of the ratio differs between streams.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from schemas.errors import InputError
from trainer.sequences import ImageSpan, TokenRow

SHARED_TOKENS_MIN = 32  # below it, running the tokens again in the batch costs less than a node of their own

_WRITTEN = 1 << 40  # above every token id


@dataclass(frozen=True, slots=True)
class Node:
    """Tokens begin … end − 1 of `rows`, which agree up to `end`; `leaves` are rows that go on alone from there."""

    begin: int
    end: int
    rows: tuple[int, ...]
    children: tuple["Node", ...]
    leaves: tuple[int, ...]


def plan(
    rows: Sequence[TokenRow],
    spans: Sequence[Sequence[ImageSpan]],
    streams: Sequence[Hashable] | None = None,
    *,
    is_flat: bool = False,
) -> Node:
    """The tree of one group; rows of different `streams` share no token after the prompt, and none do if `is_flat`.

    InputError, naming the row, where a row does not begin with the prompt of the first.
    """
    prompt_end, first = rows[0].n_prompt, rows[0]
    images = {key: -1 - number for number, key in enumerate(dict.fromkeys(k for row in rows for k in row.image_keys))}
    tokens = [_tokens(row, placed, images) for row, placed in zip(rows, spans, strict=True)]
    for row, own in zip(rows, tokens, strict=True):
        if row.n_prompt != prompt_end or own[:prompt_end] != tokens[0][:prompt_end]:
            raise InputError(f"its prompt is not that of {first.name}", where=row.name, fix="give one group at a time")
    ends = [max(row.written_at, default=-1) + 1 for row in rows]  # nothing after the last written token teaches
    kinds = list(streams or [None] * len(rows))
    everyone = tuple(range(len(rows)))
    children = () if is_flat else _shared(everyone, prompt_end, tokens, ends, kinds)
    return _node(0, prompt_end, everyone, children, ends)


def _tokens(row: TokenRow, spans: Iterable[ImageSpan], images: dict[str, int]) -> tuple[int, ...]:
    """One number per token: its id, another for each image, and another again if the row answers for it."""
    tokens = [token + _WRITTEN * written for token, written in zip(row.ids, row.is_written, strict=True)]
    for span in spans:
        tokens[span.start : span.stop] = [images[span.image.key]] * (span.stop - span.start)
    return tuple(tokens)


def _node(begin: int, end: int, rows: tuple[int, ...], children: tuple[Node, ...], ends: Sequence[int]) -> Node:
    below = {row for child in children for row in child.rows}
    return Node(begin, end, rows, children, tuple(row for row in rows if row not in below and ends[row] > end))


def _shared(
    rows: tuple[int, ...],
    begin: int,
    tokens: Sequence[tuple[int, ...]],
    ends: Sequence[int],
    kinds: Sequence[Hashable],
) -> tuple[Node, ...]:
    """Nodes for those of `rows`, equal before `begin`, of which two or more agree for long enough."""
    alike: dict[Hashable, list[int]] = {}
    for row in rows:
        start = tokens[row][begin : min(begin + SHARED_TOKENS_MIN, ends[row])]
        if len(start) == SHARED_TOKENS_MIN:
            alike.setdefault((kinds[row], start), []).append(row)
    nodes = []
    for some in alike.values():
        if len(some) > 1:
            end = begin + _n_alike([tokens[row][begin : ends[row]] for row in some])
            nodes.append(_node(begin, end, tuple(some), _shared(tuple(some), end, tokens, ends, kinds), ends))
    return tuple(nodes)


def _n_alike(rows: Sequence[tuple[int, ...]]) -> int:
    """How long all rows are equal: those that sort first and last differ first."""
    low, high = min(rows), max(rows)
    return next((at for at, (one, other) in enumerate(zip(low, high, strict=False)) if one != other), len(low))
