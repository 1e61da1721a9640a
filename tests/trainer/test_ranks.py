"""Two processes are one with more hands: same rollouts, same gradients, same log; and they die and go on as one."""

import json
import math
import sys
from dataclasses import asdict

import pytest
from safetensors.torch import load_file

import trainer.tree
from schemas.errors import CheckpointError, UsageError
from tests.doubles import question
from tests.trainer.launching import assert_same_run, die, go_on, torchrun
from tests.trainer.rank_runs import rolled, run_one
from tests.trainer.small_runs import steps_of, train
from trainer.core.advantages import GroupAdvantages, StreamStatistics
from trainer.core.rewards import Reward
from trainer.data import share, take
from trainer.facts import GroupFacts, MemberFacts
from trainer.ranks import Ranks, record_of
from trainer.running import _agreed

EXACT = ("model.dtype=float64", "warm.steps=1", "run.steps=2", "warm.batch=3", "run.prompts_per_step=3")
RAGGED = ("run.max_tokens=150",)  # several micro-batches per group, and not the same number on both ranks
SHARDED = {kind: (*EXACT, *RAGGED, f"run.sharding={kind}") for kind in ("none", "zero2", "zero3")}
WHOLE = ("run.save_every=1", "run.prompts_per_step=3")


@pytest.fixture(scope="module")
def launched(run_store, recipe_path, tmp_path_factory):
    """Runs of two processes by name, all in one launch."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = {**SHARDED, "whole": WHOLE}
    words = ["|".join([str(folder / name), *overrides]) for name, overrides in jobs.items()]
    done = torchrun("-m", "tests.trainer.rank_runs", run_store.root, recipe_path, *words)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def alone(run_store, recipe_path, tmp_path_factory):
    """The same exact run in one process; `flat` as zero3 has it, which differs by what float32 denominators cost."""
    folder = tmp_path_factory.mktemp("alone")
    run_one(run_store, recipe_path, folder / "tree", *EXACT, *RAGGED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.tree, "SHARED_TOKENS_MIN", 10**9)
        run_one(run_store, recipe_path, folder / "flat", *EXACT, *RAGGED)
    return folder


@pytest.mark.parametrize("kind", SHARDED)
def test_two_processes_are_one(launched, alone, kind):
    two, one = launched / kind, alone / ("flat" if kind == "zero3" else "tree")
    assert rolled(two) == rolled(one)
    assert len(rolled(one)) == 2 * 3 * 3
    assert_near(steps_of(two), steps_of(one), within=1e-6)
    for step in (1, 3):
        ours, theirs = stored(two, step), stored(one, step)
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == value.dtype
            assert (ours[name] - value).norm() <= 1e-6 * value.norm(), name


def test_only_the_first_rank_writes_and_it_says_how_many_there_were(launched):
    for kind in SHARDED:
        run = launched / kind
        assert json.loads((run / "run.json").read_text())["world_size"] == 2
        assert [one["step"] for one in steps_of(run)] == [0, 1, 2]
        assert {path.name for path in run.glob("rolled-*")} == {"rolled-0.jsonl", "rolled-1.jsonl"}


def test_a_killed_run_goes_on_as_if_it_had_not_been(launched, run_store, recipe_path, tmp_path):
    die(run_store, recipe_path, tmp_path / "run", 4, *WHOLE)
    with pytest.raises(CheckpointError, match="world_size was 2, is 1"):
        train(run_store, tmp_path / "run", recipe_path, *WHOLE, resume=True)
    go_on(run_store, recipe_path, tmp_path / "run", *WHOLE)
    assert_same_run(tmp_path / "run", launched / "whole")


def test_alone_nothing_is_exchanged_and_nothing_is_imported(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    ranks = Ranks.start("cpu")
    assert (ranks.rank, ranks.world, ranks.device, ranks.is_first) == (0, 1, "cpu", True)
    assert ranks.gather("one") == ["one"]
    assert ranks.total(1, 2.5) == [1, 2.5]
    ranks.wait()
    ranks.stop()


def test_a_record_comes_back_as_it_was():
    nothing, some = StreamStatistics(0, None, None), StreamStatistics(2, 0.1 + 0.2, 1e-300)
    reward = Reward(0.7, 1.0, 0.0, 1 / 3)
    member = MemberFacts("expert", reward, -0.0, 1, 2, 3, 4, ("length",), has_answer=True, entropies=(0.1, math.inf))
    sent = [GroupFacts(3, GroupAdvantages((0.1, 2.0), True, False, some, nothing, 1), (member, member))]
    back = record_of(list[GroupFacts], json.loads(json.dumps(sent, default=asdict)))
    assert back == sent
    assert repr(back) == repr(sent)
    assert record_of(None, {"a": [1, None]}) == {"a": [1, None]}


def test_ranks_that_would_not_train_the_same_are_refused():
    """On a second machine a folder of the same name may hold another model."""
    one = {"recipe": {}, "store_digest": "s", "slice": "x", "base": "b1", "versions": {"torch": "2"}, "threads": 1}
    one |= {"machine": "x86_64 AVX2", "device": "cpu", "world_size": 2}
    assert _agreed([one, one]) == one
    assert _agreed([one, one | {"machine": "x86_64 AVX512"}])["machine"] == "x86_64 AVX2 + x86_64 AVX512"
    for other in ({"base": "b2"}, {"versions": {"torch": "3"}}, {"threads": 2}, {"store_digest": "t"}):
        with pytest.raises(UsageError, match="rank 1 is not like rank 0: "):
            _agreed([one, one | other])


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_the_order_of_questions_knows_nothing_of_the_ranks(world):
    """Together the ranks ask what one asks alone, and a question asked twice in a step is asked by one rank."""
    pool = tuple(question(f"q{number}") for number in range(5))
    for step in range(6):
        asked = take(pool, step * 4, 4, seed=1)
        parts = [share(asked, rank, world) for rank in range(world)]
        assert sorted(one for part in parts for one, _ in part) == [0, 1, 2, 3]
        assert [dict(enumerate(asked))[place] for part in parts for place, _ in part] == [
            one for part in parts for _, one in part
        ]
        owners = {}
        for rank, part in enumerate(parts):
            for _, one in part:
                assert owners.setdefault(one.question_id, rank) == rank
    assert [place for place, _ in share([*pool, pool[0]], 0, 2)] == [0, 2, 4, 5]


def stored(run, step):
    """Weights and moments of a checkpoint, by name."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    return {
        f"{path.name} {name}": value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()
    }


def assert_near(lines, others, within):
    """Zero3 has no norms of the streams; all else is there and equal but for the order of sums."""
    assert len(lines) == len(others)
    for line, other in zip(lines, others, strict=True):
        assert set(other) - set(line) <= {"policy/grad_norm", "expert/grad_norm"}
        for name, value in line.items():
            if isinstance(value, float) and isinstance(other[name], float | int):
                assert math.isclose(value, other[name], rel_tol=within, abs_tol=1e-12), name
            else:
                assert value == other[name], name
