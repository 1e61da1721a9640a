import random

import pytest
import torch

from trainer.batched import collate, encode_distinct, score_rows
from trainer.rollout import Observation
from trainer.rollout.local import LocalRollout
from trainer.sequences import TokenRow

TEMPERATURE = 0.8


def prompt_of(row):
    return TokenRow.prompt(row.ids[: row.n_prompt], row.images[:1], row.name)


@pytest.fixture
def see(words, shown, image_of):
    def observation(seed, *size):
        crop = image_of(seed, *size)
        rng = random.Random(seed)
        return Observation((*words(rng, 2), *shown(crop), *words(rng, seed % 3)), (crop,))

    return observation


class Recorded:
    """An engine and what each of its rows reported, kept in step through forks and rewinds."""

    def __init__(self, policy, **settings):
        self.policy, self.engine, self.said = policy, LocalRollout(policy, TEMPERATURE, **settings), {}

    def start(self, rows, n):
        roots = self.engine.prefill([prompt_of(row) for row in rows])
        handles = [fork for root in roots for fork in self.engine.fork(root, n)]
        self.said = {handle: [] for handle in handles}
        return handles

    def decode(self, handles, most, tag, stop_ids=None):
        stops = [self.policy.stop_id] if stop_ids is None else stop_ids
        turns = self.engine.decode(handles, stops, most, [(handle, tag) for handle in handles])
        for handle, turn in zip(handles, turns, strict=True):
            self.said[handle] += zip(turn.ids, turn.logprobs, turn.entropies, strict=True)
        return turns

    def rewind(self, handle, n):
        self.engine.rewind(handle, n)
        del self.said[handle][len(self.said[handle]) - n :]

    def fork(self, handle):
        (child,) = self.engine.fork(handle, 1)
        self.said[child] = list(self.said[handle])
        return child

    def assert_equal_to_a_full_forward(self, tolerance):
        for handle, said in self.said.items():
            row = self.engine.row(handle)
            assert [row.ids[token] for token in row.written_at] == [token for token, _, _ in said]
            if not said:
                continue
            whole = score_rows(self.policy, [row], TEMPERATURE)[0]
            for ours, theirs in zip(list(zip(*said, strict=True))[1:], whole, strict=True):
                torch.testing.assert_close(
                    torch.tensor(ours, dtype=theirs.dtype), theirs.detach(), rtol=0, atol=tolerance
                )


def wander(policy, group, see):
    """Two prompts, ragged turns, crops for some rows only, plain feedback, a rewind, a fork."""
    run = Recorded(policy)
    a, b, c, d, e = handles = run.start([group(1)[0], group(1, seed=3)[0]], 3)[:5]
    run.decode(handles, [7, 3, 9, 12, 1], 0)
    run.engine.extend([a, b, d], [see(1), Observation((4, 4, 4)), see(2, 56, 56)])
    run.decode([a, b, c, d], 5, 1, stop_ids=[])
    run.engine.extend([c, d, e], [see(3, 84, 112), see(4), see(5, 112, 56)])
    run.decode(handles, 6, 2, stop_ids=[])
    run.rewind(b, 3)
    run.decode([*handles, run.fork(b)], 8, 3)
    return run


def test_every_token_equals_a_full_forward_float64(exact, group, see):
    wander(exact, group, see).assert_equal_to_a_full_forward(1e-9)


def test_every_token_equals_a_full_forward_float32(policy, group, see):
    run = wander(policy, group, see)
    rows = [run.engine.row(handle) for handle in run.said]
    batch = collate(rows, policy.image_id)
    with torch.no_grad():
        embedded = policy.embed(batch.ids, batch.placed(encode_distinct(policy, rows)))
        logits = policy.decode_hidden(embedded, batch.positions) @ policy.head_weight.T
    run.assert_equal_to_a_full_forward(1e-5 * max(1.0, float(logits.abs().max())))


def test_long_turns_outgrow_the_first_room_and_shed_finished_rows(exact, group, see):
    run = Recorded(exact)
    handles = run.start([group(1)[0], group(1, seed=3)[0]], 3)
    run.engine.extend(handles[1:3], [see(1), see(2, 56, 112)])  # so that no two neighbours stand at one position
    budgets = [2, 4, 90, 80, 150, 3]
    turns = run.decode(handles, budgets, 0, stop_ids=[])
    assert [len(turn.ids) for turn in turns] == budgets
    run.assert_equal_to_a_full_forward(1e-9)


def test_the_noise_of_a_token_is_named_by_its_place_in_the_row(policy, group, see, monkeypatch):
    drawn = []
    monkeypatch.setattr("trainer.rollout.local.uniform", lambda *key: drawn.append(key) or 0.5)
    engine = LocalRollout(policy)
    (handle,) = engine.prefill([prompt_of(group(1)[0])])
    engine.decode([handle], [], 3, [("seed", 7)])
    engine.extend([handle], [see(1)])
    engine.decode([handle], [], 2, [("seed", 7)])
    assert drawn == [("seed", 7, token) for token in engine.row(handle).written_at]


def test_noise_is_named_by_its_key_and_not_by_the_batch(exact, group, see):
    def turns(numbers):
        engine = LocalRollout(exact, TEMPERATURE)
        (root,) = engine.prefill([prompt_of(group(1)[0])])
        handles = engine.fork(root, len(numbers))
        first = engine.decode(handles, [exact.stop_id], 12, [("q", n, 0) for n in numbers])
        engine.extend(handles, [see(n) for n in numbers])
        second = engine.decode(handles, [exact.stop_id], 12, [("q", n, 0) for n in numbers])
        return {n: (one.ids, two.ids) for n, one, two in zip(numbers, first, second, strict=True)}

    together = turns([0, 1, 2, 3, 4])
    assert len(set(together.values())) == 5
    assert turns([3]) | turns([1, 0]) == {n: together[n] for n in (3, 1, 0)}


def test_banned_ids_are_never_written_and_a_stop_id_ends_a_turn(policy, group):
    run = Recorded(policy)
    handles = run.start([group(1)[0]], 40)
    common = next(i for i in range(len(policy.tokenizer)) if i not in policy.banned_ids)
    turns = run.decode(handles, 25, 0, stop_ids=[policy.stop_id, common])
    assert not {token for turn in turns for token in turn.ids} & policy.banned_ids
    for turn in turns:
        assert turn.is_stopped == (turn.ids[-1] in (policy.stop_id, common))
        assert not {policy.stop_id, common} & set(turn.ids[:-1])
        assert turn.is_stopped or len(turn.ids) == 25


@torch.no_grad()
def test_greedy_takes_the_likeliest(exact, group):
    engine = LocalRollout(exact)
    handles = engine.prefill([prompt_of(group(1)[0])])
    (turn,) = engine.decode(handles, [], 3, [()], is_greedy=True)
    row = engine.row(handles[0])
    before = len(row.ids) - 1
    for other in sorted({*range(0, len(exact.tokenizer), 7)} - exact.banned_ids):
        tried = TokenRow((*row.ids[:before], other), row.is_written, row.images, row.n_prompt)
        assert score_rows(exact, [tried])[0].logprobs[-1] <= turn.logprobs[-1] + 1e-9


def test_a_row_never_grows_beyond_its_bound(policy, group):
    row = group(1)[0]
    run = Recorded(policy, max_row_tokens=row.n_prompt + 5)
    handles = run.start([row], 2)
    run.decode(handles[:1], 3, 0, stop_ids=[])
    turns = run.decode(handles, 9, 1, stop_ids=[])
    assert [len(turn.ids) for turn in turns] == [2, 5]
    assert [run.engine.room(handle) for handle in handles] == [0, 0]
    assert [turn.ids for turn in run.decode(handles, 9, 2)] == [(), ()]


def test_equal_prompts_and_images_are_run_once(policy, group, see, monkeypatch):
    rows = [group(1)[0], group(1, seed=3)[0], group(1)[0]]
    encoded, ran = [], []
    encode, decode_hidden = policy.encode, policy.decode_hidden
    monkeypatch.setattr(policy, "encode", lambda images: encoded.append(len(images)) or encode(images))
    monkeypatch.setattr(policy, "decode_hidden", lambda x, *rest: ran.append(x.shape[:2]) or decode_hidden(x, *rest))
    engine = LocalRollout(policy)
    handles = engine.prefill([prompt_of(row) for row in rows])
    assert (encoded, len(set(handles))) == ([2], 3)
    assert [shape[0] for shape in ran] == [2]
    engine.extend(handles, [see(1), see(1), see(2)])
    engine.extend(handles[:1], [see(2)])
    assert [n for n in encoded if n] == [2, 2]
    engine.decode(handles, [], 3, [(n,) for n in handles])
    assert [shape[1] for shape in ran[2:]] == [1, 1]  # after the observation, one token at a time


def test_what_cannot_be_asked_is_refused(policy, group, see):
    engine = LocalRollout(policy)
    (handle,) = engine.prefill([prompt_of(group(1)[0])])
    engine.extend([handle], [see(3)])  # two words, the marker, the image, the marker
    for n_tokens in (2, 100, -1):  # inside the image, into the prompt, forwards
        with pytest.raises(ValueError, match="rewind"):
            engine.rewind(handle, n_tokens)
    with pytest.raises(ValueError, match="stop id"):
        engine.decode([handle], [policy.image_id], 3, [()])
    with pytest.raises(ValueError, match="twice"):
        engine.decode([handle, handle], [], 3, [(), ()])
    with pytest.raises(ValueError, match="two tokens"):
        engine.prefill([TokenRow.prompt([5])])


def test_a_fork_is_independent_and_dropped_rows_are_gone(policy, group):
    engine = LocalRollout(policy)
    (root,) = engine.prefill([prompt_of(group(1)[0])])
    before = engine.row(root)
    (child,) = engine.fork(root, 1)
    engine.decode([child], [], 4, [("child",)])
    engine.rewind(child, 1)
    assert engine.row(root) == before
    assert len(engine.row(child).ids) == len(before.ids) + 3
    engine.drop([child])
    with pytest.raises(KeyError):
        engine.row(child)
    assert engine.prefill([]) == []
