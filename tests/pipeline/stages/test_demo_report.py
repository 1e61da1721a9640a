"""The page is whole, loads nothing, shows the figures that were measured, and no text from data becomes markup."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_folders import SIZES, finished_demo, put, write_results
from pages import Page
from small_stores import tampered

from pipeline.stages.demo_plan import Demo
from pipeline.stages.demo_report import write_report
from pipeline.stages.sql import ask
from schemas.errors import DigestError, InputError
from schemas.reader import Store

HOSTILE = '"><script>alert(1)</script><img src=https://example.org/x onerror=alert(2)>&amp;\x07'


def page_of(demo: Demo) -> Page:
    return Page(demo.page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A finished demo with its page: look, but do not touch."""
    demo = finished_demo(tmp_path_factory.mktemp("finished") / "demo")
    write_report(demo, {"train": 12.5})
    return demo


@pytest.fixture
def own(finished: Demo, tmp_path: Path) -> Demo:
    """A copy, to be spoiled."""
    shutil.copytree(finished.out, tmp_path / "demo")
    return Demo(tmp_path / "demo", SIZES, workers=1)


def test_sections_and_names(finished: Demo):
    page = page_of(finished)
    assert page.texts("h1") == page.texts("title")
    assert page.texts("h2")[0] == "Verdict"
    assert len(page.texts("h2")) == 7
    assert page.all("html")[0][0]["lang"] == "en"
    for attributes, _ in page.all("img"):
        assert attributes["alt"]
    for attributes, _ in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or (attributes["role"] == "img" and attributes["aria-label"])
    assert len(page.texts("caption")) == len(page.texts("table")) > 10
    assert all(page.texts("caption"))


def assert_it_loads_nothing(page: Page) -> None:
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {name for name, _, _ in page.elements}
    for _, attributes, _ in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in {"src", "href", "srcset", "data", "xlink:href", "action", "poster"} & attributes.keys():
            assert attributes[name].startswith("data:image/")
    [style] = page.texts("style")
    assert "url(" not in style
    assert "@import" not in style


def test_it_loads_nothing(finished: Demo):
    page = page_of(finished)
    assert_it_loads_nothing(page)
    policy = [one["content"] for one, _ in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "//" not in re.sub(r"base64,[\w+/=]+", "", finished.page.read_text(encoding="utf-8"))


def test_the_verdict_says_what_was_measured(finished: Demo):
    text = " ".join(page_of(finished).texts("main"))
    assert "answers 100.0 % (95 % interval 90.0 to 100.0 %) of 8 test questions" in text
    assert "untrained it answered 0.0 %, after the warm start 50.0 %" in text
    assert "gets 50.0 %; the interval lies wholly above that" in text
    assert "GRPO put 4 answers right and 0 wrong since the warm start (exact sign test, p\u00a0=\u00a00.12)" in text
    assert "short form" in text
    assert "Not for clinical use" in page_of(finished).texts("header")[0]


def test_how_it_was_made(finished: Demo):
    page = page_of(finished)
    commands = [text for attributes, text in page.all("code") if attributes.get("class") == "command"]
    assert [one.split()[:2] for one in commands] == [
        ["fovea", name] for name in ("ingest", "build-trajectories", "audit", "train", *["evaluate"] * 3)
    ]
    assert not any("--resume" in one for one in commands)
    facts = dict(zip(page.texts("dt"), page.texts("dd"), strict=True))
    assert facts["store"] == f"v2, sha256:{Store(finished.store).head().digest}"
    assert facts["recipe"] == f"tiny, sha256:{'c0ffee' * 10}abcd"
    assert "12.5" in page.texts("td")


def sections_with_sql(page: Page) -> Iterator[tuple[str, str, int]]:
    """Caption, SQL, and number of rows of each table that was asked for."""
    asked = [text for attributes, text in page.all("section") if attributes.get("class") == "asked"]
    for text in asked:
        caption = next(one for one in page.texts("caption") if text.startswith(one))
        [code] = [one for one in page.texts("code") if one and text.endswith(one)]
        [body] = [table for table in page.texts("table") if table.startswith(caption)]
        yield caption, code, page.texts("table").index(body)


def test_the_sql_of_a_table_makes_that_table(finished: Demo):
    page, n_run, n_store = page_of(finished), 0, 0
    rows = rows_by_table(finished)
    for caption, code, at in sections_with_sql(page):
        if "read_json" in code:
            n_run += 1
            assert "read_json('run/steps.jsonl'" in code or "read_json('evaluation-*.json'" in code
            continue
        n_store += 1
        answer = ask(Store(finished.store), code)
        assert rows[at] == len(answer.rows) > 0, caption
    assert (n_run, n_store) == (3, 8)


def rows_by_table(demo: Demo) -> list[int]:
    tables = re.findall(r"<tbody>(.*?)</tbody>", demo.page.read_text(encoding="utf-8"))
    return [table.count("<tr>") for table in tables]


def test_tables_of_the_run_hold_its_figures(finished: Demo):
    [training] = [one for one in page_of(finished).texts("table") if one.startswith("Each phase of the run")]
    assert re.search(r"warm24(\.0)?6", training)  # 24 steps of 0.25 s
    assert re.search(r"grpo12(\.0)?12", training)
    [scores] = [one for one in page_of(finished).texts("table") if one.startswith("Accuracy of the three")]
    assert "step-000000all8000.10.5" in scores.replace("–", "")
    assert "step-000036all810.910.5" in scores


def test_cases_are_shown_with_words_looks_and_pictures(finished: Demo):
    page = page_of(finished)
    cards = [text for attributes, text in page.all("article")]
    searches = [one for one in cards if "What the expert did" in one]
    plays = [one for one in cards if "What the policy wrote" in one]
    assert (len(searches), len(plays)) == (6, 4)
    for card in searches:
        assert re.search(r"scan.*look 1 drill, round 1 · .*confidence \d\.\d\d → \d\.\d\d · Δc\u00a0[+-]\d\.\d\d", card)
        assert "stopped: " in card
    assert all(": correct" in one and '"coordinate": [10, 12, 60, 70]' in one for one in plays)
    assert all("untrained: no answer, wrong" in one for one in plays)
    n_looks = sum(one.count(": whole view, crop") for one in cards)
    assert len(page.all("img")) == len(cards) + 2 * n_looks
    assert n_looks >= 10


def test_text_from_data_stays_text(own: Demo):
    def spoil(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["region_label"] = [HOSTILE] * len(row["region_label"])
            row["step_text"] = [HOSTILE] * len(row["step_text"])

    def ask_badly(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["question"] = row["answer"] = HOSTILE

    tampered(Store(own.store), "trajectories", "train", spoil)
    tampered(Store(own.store), "questions", "test", ask_badly)
    write_results(own)
    for path in (own.evaluation("trained"), own.evaluation("warm")):
        plain = json.loads(path.read_text())
        for one in plain["episodes"]:
            one |= {"answer": HOSTILE, "turns": [HOSTILE, "\u202e\x00"]}
        put(path, plain)
    findings = [{"id": HOSTILE, "explain": HOSTILE, "n": 1, "keys": [], "details": []}]
    put(own.audit, json.loads(own.audit.read_text()) | {"findings": findings})
    put(own.run / "run.json", json.loads((own.run / "run.json").read_text()) | {"machine": HOSTILE})
    write_report(own, {})
    page = page_of(own)
    assert_it_loads_nothing(page)
    shown = HOSTILE.replace("\x07", "\ufffd")
    for tag, least in (("h3", 4), ("li", 12), ("text", 6), ("pre", 4), ("td", 2), ("dd", 1)):
        assert sum(shown in text for text in page.texts(tag)) >= least, tag
    assert any(shown in (attributes["alt"] or "") for attributes, _ in page.all("img"))


@pytest.mark.parametrize(
    "name", ["run/run.json", "run/steps.jsonl", "audit.json", "evaluation-untrained.json", "evaluation-trained.json"]
)
@pytest.mark.parametrize("content", [None, "", "[1]", '{"step": '])
def test_a_missing_or_broken_piece_is_named(own: Demo, name: str, content: str | None):
    own.page.unlink()
    path = own.out / name
    path.unlink() if content is None else path.write_text(content)
    if (name, content) == ("run/steps.jsonl", ""):  # a run that was stopped before its first step
        write_report(own, {})
        assert "No values were recorded." in page_of(own).texts("main")[0]
        return
    with pytest.raises(InputError) as caught:
        write_report(own, {})
    assert caught.value.where == str(path)
    assert caught.value.fix
    assert not own.page.exists()


def test_pieces_about_another_store_are_refused(own: Demo):
    tampered(Store(own.store), "questions", "test", lambda rows: rows.reverse())
    plain = json.loads(own.evaluation("warm").read_text())
    put(own.evaluation("warm"), plain | {"store_digest": Store(own.store).head().digest})
    with pytest.raises(InputError, match="about version") as caught:
        write_report(own, {})
    assert caught.value.where == str(own.evaluation("warm"))


def test_a_question_that_is_not_there_and_an_image_of_other_bytes_are_refused(own: Demo):
    plain = json.loads(own.evaluation("trained").read_text())
    plain["episodes"][0]["question_id"] = "phantom/L0/0/7/7"
    put(own.evaluation("trained"), plain)
    with pytest.raises(InputError, match="phantom/L0/0/7/7"):
        write_report(own, {})

    def spoil(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["image"]["bytes"] = row["image"]["bytes"] + b"!"

    tampered(Store(own.store), "images", "pool", spoil)
    write_results(own)
    with pytest.raises(DigestError):
        write_report(own, {})


def test_problems_of_an_audit_are_told(own: Demo):
    plain = json.loads(own.audit.read_text())
    put(own.audit, plain | {"problems": [{"id": "box_bounds", "explain": "x", "n": 3}], "skipped": ["cvs_draw"]})
    write_report(own, {})
    text = page_of(own).texts("main")[0]
    assert "1 problems: box_bounds." in text
    assert "Not checked: cvs_draw." in text
