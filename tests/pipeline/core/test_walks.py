"""Walks that share what they know end where each would have ended alone, and ask in the same rounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.cvs import SamplerConfig, greedy, sampled
from pipeline.core.grn import Aim, NavigatorConfig, Stop, advance, next_query, start
from pipeline.core.hunt import SearchConfig, SearchImage, SearchItem
from pipeline.core.search import search
from pipeline.core.walks import Place, Reply, Walked, navigate, together
from schemas.experts import Ask, Candidate, Drill, ExpertIdentity, Failure, Scan, Seen, as_asked, call_id
from schemas.records import Rule, Step
from tests.doubles import IDENTITY, ScriptedExpert, question

SIZES = ((200, 100), (60, 160))
RESCANS = ExpertIdentity("scripted", "1", rescans=True)
RULE = Rule(gain_min=0.15, confident_at=0.85, looks_max=4, mass=0.9, temperature=0.2, crossing="exclude")
configs = st.builds(
    SearchConfig,
    st.builds(NavigatorConfig, st.sampled_from((-0.2, 0.15, 0.5)), st.sampled_from((0.6, 0.85)), st.integers(1, 6)),
    st.builds(
        SamplerConfig,
        st.integers(0, 6),
        st.sampled_from((0.5, 0.9, 1.0)),
        st.sampled_from((0.05, 0.2, 2.0)),
        st.sampled_from(("exclude", "include")),
        st.integers(0, 4),
    ),
)
experts = st.builds(
    ScriptedExpert,
    script=st.integers(0, 10**6),
    n_regions=st.integers(0, 7),
    fails=st.sampled_from((0.0, 0.0, 0.1)),
    odd=st.sampled_from((0.0, 0.3)),
    moves=st.booleans(),
    identity=st.sampled_from((IDENTITY, RESCANS)),
)


class Failed(Exception):
    """A call of the round failed."""


class Alone:
    """The slow reading: every walk has a state of its own and takes one move a round; only calls are remembered."""

    def __init__(self, expert, asked, sizes, config, seed):
        self.expert, self.asked, self.sizes, self.config, self.seed = expert, asked, sizes, config, seed
        self.told, self.rounds = {}, []  # by call id; new call ids of each round

    def hear(self, queries):
        """Replies to the queries of one round."""
        names = {
            query: call_id(self.expert.identity.id, as_asked(self.asked), self.image(query), query) for query in queries
        }
        new = sorted({name for name in names.values() if name not in self.told})
        if new:
            self.rounds.append(new)
        asks = {names[query]: Ask(self.asked, self.image(query), None, query) for query in queries}
        for name in new:
            (self.told[name],) = self.expert.answer([asks[name]])
        if any(isinstance(self.told[name], Failure) for name in names.values()):
            raise Failed
        return {query: (name, self.told[name]) for query, name in names.items()}

    def image(self, query):
        return self.asked.image_ids[query.image]

    def walk_all(self, scanned, chooses):
        """(stop reason, steps) of each."""
        rule, states, done = self.config.rule, dict.fromkeys(chooses, scanned), {}
        while len(done) < len(states):
            moves = {}
            for key, state in states.items():
                if key not in done:
                    moves[key] = next_query(state, chooses[key], rule)
                    if isinstance(moves[key], Stop):
                        done[key] = (moves.pop(key).reason, state)
            queries = {key: move.drill if isinstance(move, Aim) else move for key, move in moves.items()}
            heard = self.hear(list(queries.values())) if queries else {}
            for key, move in moves.items():
                name, seen = heard[queries[key]]
                states[key] = advance(states[key], move, seen, rule, name)
        return done

    def search(self):
        """[(variant, redraws, stop reason, steps)] as they are kept."""
        rule, sampler, question_id = self.config.rule, self.config.sampler, self.asked.question_id
        state = start(self.sizes, rescans=self.expert.identity.rescans)
        scans = [Scan(image=image) for image in range(len(self.sizes))]
        heard = self.hear(scans)
        for scan in scans:
            state = advance(state, scan, heard[scan][1], rule, heard[scan][0])
        variants = list(range(1, sampler.variants + 1))
        chooses = {v: sampled(rule, self.seed, question_id, v, 0) for v in variants}
        walked = self.walk_all(state, {0: greedy(rule), **chooses})
        kept = {0: (0, 0, *walked.pop(0))}
        paths, pending = set(), walked
        for redraw in range(sampler.redraws + 1):
            if redraw:
                pending = self.walk_all(state, {v: sampled(rule, self.seed, question_id, v, redraw) for v in pending})
            again = []
            for variant, (reason, end) in sorted(pending.items()):
                path = tuple((step.region, step.mode) for step in end.steps)
                if path not in paths:
                    paths.add(path)
                    kept[variant] = (variant, redraw, reason, end)
                elif any(len(step.nucleus) > 1 for step in end.steps):
                    again.append(variant)
            pending = again
        return [(variant, redraw, reason, end.steps) for _, (variant, redraw, reason, end) in sorted(kept.items())]


@settings(max_examples=120, deadline=None)
@given(configs, experts, st.integers(1, 2), st.integers(0, 3))
def test_a_shared_search_is_what_each_walk_would_have_been_alone(config, expert, n_images, seed):
    asked = question("q0", image_ids=tuple(f"image{index}" for index in range(n_images)))
    images = tuple(SearchImage(name, size, lambda: None) for name, size in zip(asked.image_ids, SIZES, strict=False))
    result = search([SearchItem(asked, images)], expert, config, source="scripted", seed=seed)
    rounds, expert.batches = expert.batches, []
    alone = Alone(expert, asked, SIZES[:n_images], config, seed)
    try:
        expected = alone.search()
    except Failed:
        assert result.rejects
        assert not result.trajectories
    else:
        assert [(row.variant, row.n_redraws, row.stop_reason, row.steps) for row in result.trajectories] == expected
    assert rounds == alone.rounds


def scanned():
    boxes = ((10.0, 10.0, 30.0, 30.0), (60.0, 10.0, 80.0, 30.0), (110.0, 10.0, 130.0, 30.0))
    told = Seen(tuple(Candidate(box, "r", 0.3) for box in boxes), "three")
    return advance(start(SIZES[:1]), Scan(), told, RULE, "scan")


def answered(query: Drill) -> Reply:
    """A reply that gains nothing."""
    return Reply(f"{query.box_xyxy_px[0]:g}", Seen((Candidate(query.box_xyxy_px, "r", 0.3),), ""))


def driven(walks, known):
    """The queries of each round, by their left edges, and where the walks went."""
    running, rounds = together(walks, known), []
    replies = None
    while True:
        try:
            asked = running.send(replies)
        except StopIteration as end:
            return rounds, end.value
        rounds.append(sorted(query.box_xyxy_px[0] for query in asked))
        replies = {query: answered(query) for query in asked}


def test_walks_in_lock_step_ask_each_thing_once():
    place, known = Place(scanned(), RULE), {}
    walks = {variant: navigate(place, sampled(RULE, 0, "q", variant, 0)) for variant in range(1, 30)}
    rounds, done = driven({"grn": navigate(place, greedy(RULE)), **walks}, known)
    assert rounds == [[10.0, 60.0], [110.0]]  # two of three equals are in the nucleus; the rest is known by then
    assert len(known) == 3
    firsts = {walked.steps[1].region for walked in done.values()}
    assert firsts == {0, 1}
    assert {walked.stop_reason for walked in done.values()} == {"exhausted"}
    rounds, _ = driven({"again": navigate(place, greedy(RULE))}, known)
    assert rounds == []


def test_a_walk_that_knows_its_way_waits_for_the_others():
    """One that ran ahead would ask in an earlier round, and another call might be the one that fails first."""
    place, known = Place(scanned(), RULE), {}
    driven({"grn": navigate(place, greedy(RULE))}, known)
    slow = [step.region for step in driven({"grn": navigate(place, greedy(RULE))}, known)[1]["grn"].steps]
    assert slow == [None, 0, None, 1, None, 2]
    walk = navigate(place, greedy(RULE))
    assert [walk.send(None) for _ in range(3)] == [None, None, None]
    with pytest.raises(StopIteration):
        walk.send(None)


def test_walks_on_one_path_end_as_one():
    place = Place(scanned(), RULE)
    one, two = (driven({0: navigate(place, greedy(RULE))}, {})[1][0] for _ in range(2))
    assert one is two
    assert driven({0: navigate(Place(scanned(), RULE), greedy(RULE))}, {})[1][0] == one


def look(*nucleus):
    return Step("drill", 1, 0, None, None, 0.1, 0.1, 0.0, nucleus, (), nucleus, None, None, None, "")


@pytest.mark.parametrize(
    ("steps", "is_certain"), [((), True), ((look(), look(0)), True), ((look(0), look(0, 1)), False)]
)
def test_a_path_is_certain_where_no_draw_could_have_changed_it(steps, is_certain):
    assert Walked((), steps, "length").is_certain == is_certain
    assert Walked((), steps, "length").path == tuple((0, "drill") for _ in steps)
