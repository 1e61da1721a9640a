import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import InputError
from trainer.sequences import ImageSpan, TokenRow, image_spans
from trainer.tree import SHARED_TOKENS_MIN, plan

IMAGE = 99
PROMPT = (1, 2, 3)
LONG = SHARED_TOKENS_MIN


def row(*parts, images=(), name="row"):
    """A row of the prompt and parts of written ids; a part of placeholders is seen."""
    ids = [*PROMPT, *(token for part in parts for token in part)]
    is_written = [at >= len(PROMPT) and token != IMAGE for at, token in enumerate(ids)]
    return TokenRow(tuple(ids), tuple(is_written), tuple(images), len(PROMPT), name)


def planned(rows, streams=None, **how):
    spans: list[list[ImageSpan]] = [image_spans(one.ids, one.images, IMAGE) for one in rows]
    return plan(rows, spans, streams, **how)


def paths(node, before=()):
    """Row → ids that the nodes above its leaf hold, and whether it has a leaf."""
    own = (*before, (node.begin, node.end))
    found = {one: (own, one in node.leaves) for one in node.rows}
    for child in node.children:
        found |= paths(child, own)
    return found


def shape(node):
    return (node.begin, node.end, node.rows, tuple(shape(child) for child in node.children), node.leaves)


def test_rows_with_nothing_in_common_share_the_prompt_alone():
    rows = [row([4] * 40), row([5] * 40), row([6])]
    assert shape(planned(rows)) == (0, 3, (0, 1, 2), (), (0, 1, 2))


def test_a_common_first_look_becomes_a_node_and_forks_nest():
    trunk = list(range(10, 10 + LONG))
    rows = [row(trunk, [50] * LONG, [1]), row(trunk, [50] * LONG, [2]), row(trunk, [51]), row([7] * LONG)]
    inner = (3 + LONG, 3 + 2 * LONG, (0, 1), (), (0, 1))
    assert shape(planned(rows)) == (0, 3, (0, 1, 2, 3), ((3, 3 + LONG, (0, 1, 2), (inner,), (2,)),), (3,))
    assert shape(planned(rows, is_flat=True)) == (0, 3, (0, 1, 2, 3), (), (0, 1, 2, 3))


def test_less_than_a_nodes_worth_is_run_again():
    short = [8] * (LONG - 1)
    assert planned([row(short, [1]), row(short, [2])]).children == ()


def test_copies_of_a_row_are_one_path_without_leaves():
    node = planned([row([8] * 50), row([8] * 50)])
    assert shape(node) == (0, 3, (0, 1), ((3, 53, (0, 1), (), ()),), ())


def test_a_token_of_another_stream_or_image_is_another_token(image_of):
    crop, other = image_of(1), image_of(2)
    same = [
        row([IMAGE] * crop.n_tokens, [8] * LONG, images=[one], name=str(n)) for n, one in enumerate((crop, crop, other))
    ]
    assert [child.rows for child in planned(same).children] == [(0, 1)] * (crop.n_tokens + LONG >= LONG)
    assert planned(same, ["policy", "expert", "policy"]).children == ()
    seen = row([8] * LONG, [1])
    told = TokenRow(seen.ids, (False,) * (len(seen.ids) - 1) + (True,), (), 3)
    assert planned([seen, told]).children == ()


def test_what_follows_the_last_written_token_is_not_run():
    row_ = TokenRow((*PROMPT, *[8] * 60), (False,) * 3 + (True,) * 35 + (False,) * 25, (), 3)
    assert shape(planned([row_, row_])) == (0, 3, (0, 1), ((3, 38, (0, 1), (), ()),), ())
    silent = TokenRow(PROMPT, (False,) * 3, (), 3)
    assert shape(planned([silent])) == (0, 3, (0,), (), ())


@pytest.mark.parametrize("wrong", [(1, 2, 4, 5), (1, 2, 3, 5)])
def test_another_prompt_is_named(wrong):
    n_prompt = 3 if wrong[2] == 4 else 2
    stranger = TokenRow(wrong, (False,) * 4, (), n_prompt, "stranger")
    with pytest.raises(InputError) as error:
        planned([row([1]), stranger])
    assert error.value.where == "stranger"


TEXT = st.lists(st.sampled_from([4, 5]).flatmap(lambda one: st.integers(20, 70).map(lambda n: [one] * n)), max_size=4)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=7))
def test_every_row_is_covered_once_by_tokens_that_are_its_own(texts):
    rows = [row(*text) for text in texts]
    node = planned(rows)
    for number, (path, has_leaf) in paths(node).items():
        assert [begin for begin, _ in path] == [0, *(end for _, end in path[:-1])]
        end = path[-1][1]
        assert has_leaf == (end < len(rows[number].ids))

    def check(one):
        ids = {rows[index].ids[: one.end] for index in one.rows}
        assert len(ids) == 1
        assert one is node or (len(one.rows) > 1 and one.end - one.begin >= LONG)
        for child in one.children:
            assert child.begin == one.end
            assert set(child.rows) <= set(one.rows)
            check(child)

    check(node)
