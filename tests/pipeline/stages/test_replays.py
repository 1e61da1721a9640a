"""A slice comes again from its recorded calls alone, and a costly expert is never asked twice."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from pipeline.adapters.engine import LOCAL
from pipeline.adapters.experts.recorded import recorded_identity
from pipeline.core.cvs import SamplerConfig
from pipeline.core.grn import NavigatorConfig
from pipeline.core.hunt import SearchConfig
from pipeline.stages import trajectory_stage
from pipeline.stages.build_trajectories import BuildTrajectories, Searched, command, search_all
from pipeline.stages.trajectory_counts import n_not_recorded
from schemas.errors import DigestError, ExpertError, StoreError, UsageError
from schemas.experts import NOT_RECORDED, ExpertIdentity
from schemas.manifest import Slice
from schemas.reader import Store
from tests.doubles import ScriptedExpert
from tests.pipeline.small_stores import INGEST, asked, drawn_image, put_questions
from tests.processes import bytes_of

FIRST = "trajectories/drawn/first"
N_QUESTIONS = 12
WHO = ExpertIdentity("scripted", "1", (("a", 1), ("b", "x")), privileged=True, rescans=True)
OTHER_RULE = SearchConfig(NavigatorConfig(gain_min=0.02, looks_max=5))


class Costly(ScriptedExpert):
    is_costly = True


@pytest.fixture
def expert(monkeypatch: pytest.MonkeyPatch) -> Costly:
    """The one that every build of a test asks."""
    made = Costly(size=(64, 48), n_regions=4, identity=WHO)
    monkeypatch.setattr(trajectory_stage, "make_expert", lambda name, settings: made)
    return made


@pytest.fixture(autouse=True)
def _new_processes() -> Iterator[None]:
    yield
    forget()


def forget() -> None:
    """As in a new process."""
    trajectory_stage._traits.cache_clear()


def drawn(root: Path, **changed: object) -> Store:
    images = [drawn_image(number) for number in range(N_QUESTIONS)]
    store = Store(root)
    put_questions(store, images, [asked(number, image, **changed) for number, image in enumerate(images)])
    return store


def search(store: Store, *, redo: bool = False, **changes: object) -> Searched:
    forget()
    version = store.head().version
    stage = BuildTrajectories(store.root, version, INGEST, "scripted", (), SearchConfig(), 0, "first")
    return search_all(store, replace(stage, **changes), LOCAL, 1.0, redo)


def forget_work(store: Store) -> None:
    for path in sorted(store.root.glob("work/**/*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


@pytest.mark.parametrize("fails", [0.0, 0.05])
def test_the_slice_comes_again_byte_by_byte_rejects_included(tmp_path: Path, expert: Costly, fails: float):
    store, expert.fails = drawn(tmp_path), fails
    first = search(store)
    assert (first.built.slice.rows("rejects") > 0) == (fails > 0)
    n_calls, before = first.built.slice.rows("expert_calls"), bytes_of(tmp_path)
    assert first.calls == {"calls_asked": n_calls, "calls_cached": 0}
    forget_work(store)
    n_asked = expert.n_calls
    again = search(store, calls_of=FIRST)
    assert (again.built.n_reused, again.built.is_new, again.built.slice) == (0, False, first.built.slice)
    assert again.calls == {"calls_asked": 0, "calls_cached": n_calls}
    assert bytes_of(tmp_path) == before
    copy = search(store, calls_of=FIRST, slice_name="copy").built
    assert copy.slice == replace(first.built.slice, name="copy")
    assert expert.n_calls == n_asked


def test_a_second_slice_asks_only_what_is_new_and_a_replay_rejects_what_it_lacks(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    n_first = search(store).built.slice.rows("expert_calls")
    lacking = search(store, calls_of=FIRST, search=OTHER_RULE, slice_name="lacking").built.slice
    n_lacking = n_not_recorded(store, lacking.key)
    assert 0 < n_lacking == lacking.rows("rejects") < N_QUESTIONS
    assert expert.n_calls == n_first
    second = search(store, search=OTHER_RULE, slice_name="second")
    assert second.built.n_reused == 0  # a shard of a replay is not taken for one of an expert
    assert 0 < second.calls["calls_asked"] == expert.n_calls - n_first < second.calls["calls_cached"]
    assert second.built.slice.rows("rejects") == 0
    whole = {row.question_id: row for row in store.snapshot().records("trajectories", slices=[second.built.slice.key])}
    rows = store.snapshot().records("trajectories", slices=[lacking.key])
    assert len({row.question_id for row in rows}) == N_QUESTIONS - n_lacking
    assert all(row.rule == whole[row.question_id].rule for row in rows)
    third = search(store, search=OTHER_RULE, slice_name="third")
    assert (third.built.n_reused, expert.n_calls) == (2, n_first + second.calls["calls_asked"])


def test_a_replay_that_lacks_calls_decodes_no_image(tmp_path: Path, expert: Costly, monkeypatch: pytest.MonkeyPatch):
    store = drawn(tmp_path)
    search(store)
    monkeypatch.setattr(trajectory_stage.Worker, "image", lambda *_: pytest.fail("decoded"))
    lacking = search(store, calls_of=FIRST, search=OTHER_RULE, slice_name="lacking").built.slice
    assert lacking.rows("rejects") > 0


def test_a_replay_of_a_replay_is_that_replay(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    search(store)
    lacking = search(store, calls_of=FIRST, search=OTHER_RULE, slice_name="lacking").built.slice
    forget_work(store)
    again = search(store, calls_of=lacking.key, search=OTHER_RULE, slice_name="lacking").built
    assert (again.n_reused, again.is_new, again.slice) == (0, False, lacking)


def test_another_seed_asks_nothing_where_no_new_path_is_found(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    n_first = search(store).built.slice.rows("expert_calls")
    second = search(store, seed=1, slice_name="second")
    assert second.calls["calls_cached"] + second.calls["calls_asked"] == second.built.slice.rows("expert_calls")
    assert second.calls["calls_asked"] < n_first / 4


def test_reworded_questions_are_asked_and_moved_ones_are_not(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    n_first = search(store).built.slice.rows("expert_calls")
    drawn(tmp_path, split="test")
    assert search(store).calls == {"calls_asked": 0, "calls_cached": n_first}
    drawn(tmp_path, question="Where is it?")
    assert search(store).calls["calls_cached"] == 0


def test_failed_calls_are_asked_again_on_demand_and_finished_rows_stay(tmp_path: Path, expert: Costly):
    store, expert.fails = drawn(tmp_path), 0.05
    first = search(store).built.slice
    before, n_before = store.snapshot().records("trajectories"), expert.n_calls
    expert.fails = 0.0
    unchanged = search(store).built
    assert (unchanged.n_reused, unchanged.slice) == (2, first)  # a failure is finished work too
    again = search(store, redo=True)
    assert again.built.slice.rows("rejects") == 0 < first.rows("rejects")
    assert again.calls["calls_asked"] == expert.n_calls - n_before < again.calls["calls_cached"]
    bad = {row.row_key for row in Store(tmp_path).snapshot(2).records("rejects")}
    rows = store.snapshot().records("trajectories")
    assert [row for row in rows if row.question_id not in bad] == before
    assert {row.question_id for row in rows} - bad == {row.question_id for row in before}
    assert search(store, redo=True).built.n_reused == 2


class GivesUp(Costly):
    def answer(self, asks):
        if len(self.batches) == 7:
            raise ExpertError("enough")
        return super().answer(asks)


def test_an_expert_that_gives_up_has_its_answers_kept(tmp_path: Path, expert: Costly, monkeypatch: pytest.MonkeyPatch):
    whole = search(drawn(tmp_path / "whole")).built.slice
    n_calls = expert.n_calls
    store, tired = drawn(tmp_path / "store"), GivesUp(size=expert.size, n_regions=expert.n_regions, identity=WHO)
    with monkeypatch.context() as patched:
        patched.setattr(trajectory_stage, "make_expert", lambda name, settings: tired)
        with pytest.raises(ExpertError, match="enough"):
            search(store)
    rest = search(store)
    assert rest.built.slice == whole
    assert (rest.built.n_reused, rest.calls["calls_asked"]) == (1, n_calls - tired.n_calls)
    assert rest.calls["calls_cached"] > 0
    assert expert.n_calls == 2 * n_calls - tired.n_calls


def damaged_calls(store: Store) -> Slice:
    """The first slice, with one byte of its calls changed."""
    one = store.head().slices[FIRST]
    path = store.root / next(part.path for part in one.parts if part.table == "expert_calls")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    return one


def test_calls_that_are_not_as_published_are_not_replayed(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    search(store)
    damaged_calls(store)
    forget_work(store)
    with pytest.raises(DigestError):
        search(store, calls_of=FIRST)


def test_a_slice_without_its_calls_is_not_replayed_as_itself(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    one = search(store).built.slice
    bare = replace(one, parts=tuple(part for part in one.parts if part.table != "expert_calls"))
    following = store.head().with_slice(bare)
    (store.manifests / f"v{following.version}.json").write_bytes(following.to_bytes())
    forget_work(store)
    with pytest.raises(StoreError, match=f"{FIRST} lacks calls"):
        search(store, calls_of=FIRST)


def test_the_reject_of_a_replay_counts_what_is_missing(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    search(store)
    key = search(store, calls_of=FIRST, search=OTHER_RULE, slice_name="lacking").built.slice.key
    rejects = store.snapshot().records("rejects", slices=[key])
    assert {row.error_class for row in rejects} == {NOT_RECORDED}
    assert all(row.message.endswith("of the calls it needs next are not recorded") for row in rejects)
    calls = store.snapshot().records("expert_calls", slices=[key])
    assert all(call.error_class is None for call in calls)


def called(store: Store, *words: object) -> None:
    app = typer.Typer()
    app.command()(command)
    line = ["--store", store.root, "--source", "drawn", "--max-reject-rate", 1, *words]
    get_command(app).main([str(word) for word in line], standalone_mode=False)


def test_a_replay_takes_what_is_not_given_from_its_slice(tmp_path: Path, expert: Costly):
    store = drawn(tmp_path)
    rule = SearchConfig(NavigatorConfig(0.1, 0.7, 5), SamplerConfig(3, 0.8, 0.3, "include", 1), ("random", "scan_only"))
    first = search(store, search=rule, seed=5).built.slice
    called(store, "--from-calls", "*")
    assert store.head().slices == {**store.load(2).slices, FIRST: first}
    called(store, "--from-calls", FIRST, "--variants", 2, "--seed", 6, "--name", "other", "--origins", "random")
    config = store.head().slices["trajectories/drawn/other"].config
    assert (config["sampler"], config["seed"]) == ({**first.config["sampler"], "variants": 2}, 6)
    assert (config["navigator"], config["origins"]) == (first.config["navigator"], ["random"])
    assert config["calls_of"] == first.digest


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--gain-min", "0.3"), f"another rule would take the place of {FIRST} and its calls"),
        (("--seed", "4"), "another rule would take the place"),
        (("--expert-set", "a=1"), "--expert-set is for an expert"),
        (("--redo-rejected",), "--redo-rejected is for an expert"),
        (("--expert", "saliency"), "who answers"),
        (("--from-calls", "nothing"), "no slice matches 'trajectories/drawn/nothing'"),
        (("--from-calls", INGEST), "holds no trajectories of drawn"),
        (("--gain-min", "nan", "--name", "x"), "gain_min must be finite"),
    ],
)
def test_a_replay_that_means_nothing_is_wrong_usage(one_store: Store, words: tuple[str, ...], what: str):
    with pytest.raises(UsageError, match=re.escape(what)):
        called(one_store, *(() if "--from-calls" in words else ("--from-calls", "first")), *words)


@pytest.fixture(scope="module")
def one_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = drawn(tmp_path_factory.mktemp("one"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trajectory_stage, "make_expert", lambda name, settings: Costly(size=(64, 48), identity=WHO))
        search(store)
    return store


def test_a_slice_that_does_not_say_who_answered_is_not_replayed(one_store: Store):
    one = one_store.head().slices[FIRST]
    for config in ({}, {**one.config, "expert_settings": {"a": 2}}, {**one.config, "expert_settings": None}):
        with pytest.raises(StoreError, match="does not say who answered"):
            recorded_identity(replace(one, config=config))
    assert recorded_identity(one) == WHO
