"""How the training benches measure: turns, medians, what is known already, and what is refused."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.stages.bench_training import Case, Runner, Side, measured
from pipeline.stages.bench_training_ladder import growth, ladder
from pipeline.stages.bench_training_report import (
    cases,
    numbers,
    parity,
    picture,
    refuse_rival,
    report_of,
    row,
    same_tokens,
    show,
)
from pipeline.stages.bench_training_rollout import rows_of
from pipeline.stages.bench_training_step import micro_batches, row_of
from schemas.errors import FoveaError, UsageError


def result(*cpu_s: float, above: float = 100.0, **facts) -> dict:
    runs = [{"decode": [2 * one, one], "update": [one, 3 * one]} for one in cpu_s]
    return {"runs": runs, "mb": {"above": above, "peak": above + 300}, "facts": facts}


class Played(Runner):
    """Sides that were written down."""

    def __init__(self, results, out=None) -> None:
        super().__init__(out)
        self.results, self.started = results, []

    def _started(self, side: Side) -> dict:
        self.started.append((side.name, side.case))
        return self.results(side)


def test_medians_and_spread_leave_the_warm_up_out():
    both = [result(9.0, 1.0, 2.0, above=50.0), result(9.0, 3.0, 4.0, above=70.0)]
    got = measured(both, Case(warmup=1))
    assert (got.cpu_s, got.seconds) == (10.0, 7.5)
    assert got.spread_cpu_s == (4.0, 16.0)
    assert got.phases_cpu_s == {"decode": 2.5, "update": 7.5}
    assert (got.above_mb, got.peak_mb) == (70.0, 370.0)
    alone = measured(both, Case(warmup=1), ("update",))
    assert (alone.cpu_s, alone.seconds) == (7.5, 2.5)


def test_sides_take_turns_and_what_is_known_is_not_measured_again(tmp_path: Path):
    out, sides = tmp_path / "out.jsonl", [Side("a", Case()), Side("b", Case())]
    first = Played(lambda side: result(9.0, 1.0 if side.name == "a" else 4.0), out)
    ours, theirs = first.in_turns(sides, 2)
    assert [name for name, _ in first.started] == ["a", "b", "a", "b"]
    assert theirs.cpu_s / ours.cpu_s == 4.0
    with out.open("a") as file:
        file.write('{"key": "cut')  # by a kill
    again = Played(lambda side: pytest.fail("measured twice"), out)
    assert again.in_turns(sides, 2) == [ours, theirs]
    with pytest.raises(pytest.fail.Exception):
        again.in_turns([Side("a", Case(group=9))], 1)


def test_trl_has_the_micro_batch_that_is_fastest_for_it():
    def played(side: Side) -> dict:
        facts = {"prompt": 7, "trained": 5}
        return result(9.0, {0: 1.0, 8: 6.0, 4: 5.0, 2: 7.0}[side.case.micro_batch], **facts)

    runner = Played(played)
    told = row_of(runner, Case(), "trl", 2, "step")
    assert told.ratio == 5.0
    assert told.their_side == "trl, 4 rows at once"
    assert told.swept is not None
    assert {rows: cpu_s for rows, (cpu_s, _) in told.swept.items()} == {8: 24.0, 4: 20.0, 2: 28.0}
    assert len(runner.started) == 3 + 2 * 2
    assert micro_batches(Case(group=14)) == [14, 7]
    assert Case(group=14, micro_batch=7).trl()["gradient_accumulation_steps"] == 2


def test_sides_that_do_not_do_the_same_are_refused():
    with pytest.raises(FoveaError, match=r"do not do the same: ours .'row': 3."):
        same_tokens(
            measured([result(1.0, row=3, x=1)], Case(warmup=0)), measured([result(1.0, row=4, x=1)], Case(warmup=0))
        )


def test_ladder_growth_and_rollouts_have_the_rows_they_promise():
    runner = Played(lambda side: result(9.0, float(side.case.group), forwarded=3))
    rows = ladder(runner, Case(), 1)
    assert [one.name for one in rows][:2] == ["1. full logits", "2. naive"]
    assert {one.case.first_looks for one in rows} == {2}
    assert (rows[-1].their_side, rows[-1].case.trained) == ("tree", "text")
    grown = growth(runner, Case(), [2, 8], 1)
    svg = ET.fromstring(picture(grown, "group"))
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 4
    names = [one.name for one in rows_of(runner, Case(prompts=8), 1)]
    assert names == ["prefill and decode", "decode", "unequal, 16 live: decode", "three turns, two crops"]


def test_people_read_the_same_as_a_table(capsys: pytest.CaptureFixture[str]):
    case = Case(vocabulary=151_936)
    ours, theirs = (measured([result(9.0, one, above=one * 100)], case) for one in (1.0, 2.0))
    rows = [row("step", (Side("ours", case), ours), (Side("trl", replace(case, micro_batch=4)), theirs))]
    show(replace(report_of(rows, {"shared": 1e-7}, "trl", 1), growth=(0.25, 0.0625)))
    told = capsys.readouterr().err
    assert "parity, shared: 1.0e-07" in told
    assert {"151,936", "4.00", "8.00", "2.00", "0.50"} <= set(told.split())
    assert "trl, 4 rows at once: decode 2.00, update 6.00 s; wall 6.00 s; 200 MB above the model" in told
    assert "0.250 CPU s for the prefix, 0.0625 for each completion" in told


def test_cases_are_every_combination_of_the_sizes():
    made = list(cases("64,256", "8,14", "640", 3, ["crops=2", "trained=text"]))
    assert [(one.image_tokens, one.group) for one in made] == [(64, 8), (256, 8), (64, 14), (256, 14)]
    assert {(one.crops, one.trained, one.repeats) for one in made} == {(2, "text", 3)}


@pytest.mark.parametrize("setting", ["", "crops", "crops=", "crops=-1", "group=3", "model=4b", "trained=", "crops=²"])
def test_other_settings_are_refused(setting: str):
    with pytest.raises(UsageError, match="sets nothing"):
        list(cases("64", "8", "640", 1, [setting]))


@pytest.mark.parametrize("text", ["", "0", "8,", "-3", "1e3", "²"])
def test_other_numbers_are_refused(text: str):
    with pytest.raises(UsageError, match="no numbers above 0"):
        numbers(text)
    with pytest.raises(UsageError, match="no square image"):
        list(cases("60", "8", "640", 1, None))


def test_nothing_is_begun_when_the_time_is_over():
    with pytest.raises(UsageError, match="0 minutes are over"):
        Runner(None, 0.0).run(Side("ours", Case()))


def test_a_side_that_fails_says_why(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(FoveaError, match=r"exit code 1: .*no such side"):
        Runner().run(Side("no such side", Case(image_tokens=4, group=2, turn_tokens=2)))
    assert capfd.readouterr() == ("", "")


def test_parity_is_asked_for_at_a_small_size():
    runner = Played(lambda side: {"shared": 1e-8})
    assert parity(runner, "", 2) == {"shared": 1e-8}
    ((name, case),) = runner.started
    assert (name, case.crops, case.image_tokens) == ("parity", 2, 16)
    assert json.loads(json.dumps(case.told()))["sizes"]["vocab_size"] == 640


def test_a_rival_that_is_not_known_or_not_there_is_refused(monkeypatch: pytest.MonkeyPatch):
    refuse_rival("")
    with pytest.raises(UsageError, match="no rival known"):
        refuse_rival("verl")
    monkeypatch.setattr("pipeline.stages.bench_training_report.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="trl is not installed"):
        refuse_rival("trl")
