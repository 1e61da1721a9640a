import math
import random

import pytest
import torch

from trainer.batched import score_rows
from trainer.rollout import Observation
from trainer.rollout.local import LocalRollout
from trainer.rollout.pasts import plain
from trainer.sequences import EncodedImage, TokenRow

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


def write(engine, handles, most, keys):
    """A turn of each row, in the order of `handles`."""
    engine.write(handles, keys, most)
    over = {}
    while turns := engine.finished():
        over |= turns
    assert set(over) == set(handles)
    return [over[handle] for handle in handles]


class Recorded:
    """An engine and what each of its rows reported, kept in step through forks and rewinds."""

    def __init__(self, policy, **settings):
        self.policy, self.engine, self.said = policy, LocalRollout(policy, TEMPERATURE, **settings), {}

    def start(self, rows, n):
        roots = self.engine.prefill([prompt_of(row) for row in rows])
        handles = [fork for root in roots for fork in self.engine.fork(root, n)]
        self.said = {handle: [] for handle in handles}
        return handles

    def write(self, handles, most, tag):
        turns = write(self.engine, handles, most, [(handle, tag) for handle in handles])
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


def wander(policy, group, see, **settings):
    """Two prompts of unequal length, ragged turns, crops for some rows only, plain feedback, rewinds, forks."""
    run = Recorded(policy, **settings)
    a, b, c, d, e = handles = run.start([group(1)[0], longer(group(1, seed=3)[0])], 3)[:5]
    run.write(handles, [7, 3, 9, 12, 1], 0)
    run.engine.extend([a, b, d], [see(1), Observation((4, 4, 4)), see(2, 56, 56)])
    run.write([a, b, c, d], 5, 1)
    run.engine.extend([c, d, e], [see(3, 84, 112), see(4), see(5, 112, 56)])
    run.write(handles, 6, 2)
    run.rewind(b, 3)
    run.write([*handles, run.fork(b)], 8, 3)
    run.rewind(a, 2)  # what is left ends in a token that was read before
    run.write([a], 4, 4)
    run.rewind(run.fork(e), 0)
    return run


def longer(row):
    """Its prompt followed by 40 words more."""
    ids = (*row.ids[: row.n_prompt], *row.ids[:5] * 8)
    return TokenRow.prompt(ids, row.images[:1], "longer")


@pytest.mark.parametrize("live_rows", [1, 2, 64])
def test_every_token_equals_a_full_forward_float64(exact, group, see, live_rows):
    wander(exact, group, see, live_rows=live_rows, stop_ids=[]).assert_equal_to_a_full_forward(1e-9)


def test_every_token_equals_a_full_forward_float32(policy, group, see):
    wander(policy, group, see, stop_ids=[]).assert_equal_to_a_full_forward(1e-4)


def test_it_runs_where_only_deterministic_algorithms_may(policy, group, see):
    torch.use_deterministic_algorithms(True)
    try:
        wander(policy, group, see, stop_ids=[]).assert_equal_to_a_full_forward(1e-4)
    finally:
        torch.use_deterministic_algorithms(False)


def test_without_the_kernels_of_the_cpu(exact, group, see, monkeypatch):
    monkeypatch.setattr("trainer.rollout.pasts.partial", plain)
    wander(exact, group, see, stop_ids=[]).assert_equal_to_a_full_forward(1e-9)


def test_long_turns_outgrow_the_first_room_and_shed_finished_rows(exact, group, see):
    run = Recorded(exact, stop_ids=[])
    handles = run.start([group(1)[0], group(1, seed=3)[0]], 3)
    run.engine.extend(handles[1:3], [see(1), see(2, 56, 112)])  # so that no two neighbours stand at one position
    budgets = [2, 4, 90, 80, 150, 3]
    turns = run.write(handles, budgets, 0)
    assert [len(turn.ids) for turn in turns] == budgets
    run.assert_equal_to_a_full_forward(1e-9)


@pytest.mark.parametrize("n", [1, 3])
def test_a_row_rewound_to_its_prompt_or_to_the_end_of_an_image_goes_on_from_there(exact, group, see, n):
    run = Recorded(exact, stop_ids=[])
    (root,) = handles = run.start([group(1)[0]], 1)
    children = [run.fork(root) for _ in range(n)]
    run.engine.extend(handles, [see(3)])  # it ends in the image and its end marker
    run.write([root, *children], 4, 0)
    run.rewind(root, 4)
    run.engine.rewind(root, 1)
    for child in children:
        run.rewind(child, 4)
    run.write([root, *children], 5, 1)
    run.assert_equal_to_a_full_forward(1e-9)


def test_the_noise_of_a_token_is_named_by_its_place_in_the_row(policy, group, see, monkeypatch):
    drawn = []
    monkeypatch.setattr("trainer.rollout.live.uniform", lambda *key: drawn.append(key) or 0.5)
    engine = LocalRollout(policy, stop_ids=[])
    (handle,) = engine.prefill([prompt_of(group(1)[0])])
    write(engine, [handle], 3, [("seed", 7)])
    engine.extend([handle], [see(1)])
    write(engine, [handle], 2, [("seed", 7)])
    assert drawn == [("seed", 7, token) for token in engine.row(handle).written_at]


def test_banned_ids_are_never_written_and_a_stop_id_ends_a_turn(policy, group):
    common = next(i for i in range(len(policy.tokenizer)) if i not in policy.banned_ids)
    run = Recorded(policy, stop_ids=[policy.stop_id, common])
    handles = run.start([group(1)[0]], 40)
    turns = run.write(handles, 25, 0)
    assert any(turn.is_stopped for turn in turns)
    assert not {token for turn in turns for token in turn.ids} & policy.banned_ids
    for turn in turns:
        assert turn.is_stopped == (turn.ids[-1] in (policy.stop_id, common))
        assert not {policy.stop_id, common} & set(turn.ids[:-1])
        assert turn.is_stopped or len(turn.ids) == 25


@torch.no_grad()
def test_greedy_takes_the_likeliest(exact, group):
    engine = LocalRollout(exact, is_greedy=True, stop_ids=[])
    handles = engine.prefill([prompt_of(group(1)[0])])
    (turn,) = write(engine, handles, 3, [()])
    row = engine.row(handles[0])
    before = len(row.ids) - 1
    for other in sorted({*range(0, len(exact.tokenizer), 7)} - exact.banned_ids):
        tried = TokenRow((*row.ids[:before], other), row.is_written, row.images, row.n_prompt)
        assert score_rows(exact, [tried])[0].logprobs[-1] <= turn.logprobs[-1] + 1e-9


def test_what_cannot_be_asked_is_refused(policy, group, see):
    engine = LocalRollout(policy)
    (handle,) = engine.prefill([prompt_of(group(1)[0])])
    engine.extend([handle], [see(3)])  # two words, the marker, the image, the marker
    for n_tokens in (2, 100, -1):  # inside the image, into the prompt, forwards
        with pytest.raises(ValueError, match="rewind"):
            engine.rewind(handle, n_tokens)
    with pytest.raises(ValueError, match="turn of 0 tokens"):
        engine.write([handle], [()], 0)
    engine.write([handle], [()], 3)
    for ask in (
        lambda: engine.write([handle], [()], 3),
        lambda: engine.extend([handle], [see(3)]),
        lambda: engine.drop([handle]),
        lambda: engine.fork(handle, 1),
        lambda: engine.rewind(handle, 1),
    ):
        with pytest.raises(ValueError, match="writing"):
            ask()
    for settings in ({"stop_ids": [policy.image_id]}, {"live_rows": 0}):
        with pytest.raises(ValueError, match="stop id"):
            LocalRollout(policy, **settings)


def test_a_fork_is_independent_and_dropped_rows_are_gone(policy, group):
    engine = LocalRollout(policy, stop_ids=[])
    (root,) = engine.prefill([prompt_of(group(1)[0])])
    before = engine.row(root)
    (child,) = engine.fork(root, 1)
    write(engine, [child], 4, [("child",)])
    engine.rewind(child, 1)
    assert engine.row(root) == before
    assert len(engine.row(child).ids) == len(before.ids) + 3
    engine.drop([child])
    with pytest.raises(KeyError):
        engine.row(child)
    assert engine.prefill([]) == []
    assert engine.finished() == []


def test_an_empty_observation_changes_nothing(exact, group, see):
    run = Recorded(exact, stop_ids=[])
    handles = run.start([group(1)[0]], 2)
    nothing = Observation(())
    run.engine.extend(handles, [see(1), nothing])
    run.engine.extend(handles, [nothing, nothing])
    run.write(handles, 4, 0)
    run.assert_equal_to_a_full_forward(1e-9)


def test_a_row_that_diverged_spoils_no_other(policy, group, image_of):
    """Its keys and values are NaN; others come to where its prompt and its own tokens were, beside longer ones."""
    image = image_of(0, 112, 84)
    spoilt = EncodedImage("spoilt", image.pixel_values * math.nan, image.grid_thw)
    start = prompt_of(group(1)[0])
    known = LocalRollout(policy, stop_ids=[])
    (expected,) = write(known, known.prefill([start]), 8, [("same",)])
    engine = LocalRollout(policy, stop_ids=[])
    bad = engine.prefill([TokenRow.prompt((*start.ids, *start.ids[:5] * 8), (spoilt,), "bad")])
    (turn,) = write(engine, bad, 40, [("bad",)])
    assert all(math.isnan(nats) for nats in turn.entropies)
    engine.drop(bad)
    handles = engine.prefill([start, longer(group(1)[0])])
    told = write(engine, handles, [8, 40], [("same",), ("other",)])[0]
    assert told.ids == expected.ids
    torch.testing.assert_close(torch.tensor(told.entropies), torch.tensor(expected.entropies))


def test_observations_that_waited_are_read_together_every_so_often(policy, group, monkeypatch):
    """Every step one row of 60 is shown something: too few to be read at once, read after WAIT_STEPS steps."""
    engine = LocalRollout(policy, stop_ids=[])
    (root,) = engine.prefill([prompt_of(group(1)[0])])
    handles = engine.fork(root, 60)
    reads, read = [], engine._read_after_prompts
    monkeypatch.setattr(engine, "_read_after_prompts", lambda rows: reads.append(len(rows)) or read(rows))
    engine.write(handles, [(one,) for one in handles], list(range(1, 31)) + [40] * 30)
    n_shown = 0
    while (turns := engine.finished()) and n_shown < 30:
        for handle, _ in turns:
            n_shown += 1
            engine.extend([handle], [Observation((4, 4))])
            engine.write([handle], [(handle, 1)], 40)
    assert reads[:3] == [9, 9, 9]
