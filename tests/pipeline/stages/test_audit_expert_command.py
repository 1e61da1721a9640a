"""`fovea audit --expert` as people run it."""

import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from pipeline.adapters.commits import commit
from pipeline.stages.audit import command
from pipeline.stages.audit_expert_page import page, picture
from pipeline.stages.audit_expert_shown import show
from schemas.errors import ExpertError, UsageError
from schemas.reader import Store
from schemas.records import Finding, Region
from tests.pipeline.scripted_truths import SPOT, TellingExpert, measured, store_of, store_with
from tests.pipeline.small_stores import INGEST, asked, drawn_image
from tests.processes import bytes_of, fovea

ASKED = ("--expert", "saliency", "--source", "phantom")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
RECORDED = ("--expert-slice", "trajectories/phantom/annotations")


app = typer.Typer()
app.command()(command)


def invoke(store: Store, *options: object) -> Result:
    """The command in this process; what it raises is in `exception`."""
    return CliRunner().invoke(app, ["--store", str(store.root), *map(str, options)])


def report_of(store: Store, *options: object) -> dict:
    return json.loads(invoke(store, "--json", *options).stdout)


def test_an_expert_is_asked_and_the_store_stays_as_it_was(phantom_store: Store):
    before = bytes_of(phantom_store.root)
    report = report_of(phantom_store, *ASKED, "--questions", 30)
    assert bytes_of(phantom_store.root) == before
    assert (report["how"], report["privileged"], report["slice"]) == ("asked", False, "ingest/phantom/default")
    assert report["questions"]["measured"] == 30
    assert [one["iou"] for one in report["recall"]] == [0.1, 0.3, 0.5]
    values = [one["share"]["value"] for one in report["recall"]]
    assert values == sorted(values, reverse=True)
    assert report["recall"][1]["gain"] > 2 * report["recall"][1]["gain_se"]  # spots on drawn lungs stand out
    assert report["drill"]["drilled"]["n"] >= 0.95 * report["scan"]["n"]  # a few overlap others
    again = report_of(phantom_store, *ASKED, "--questions", 30)
    for each in (report, again):
        each["cost"] = {name: value for name, value in each["cost"].items() if name not in ("seconds", "per_question")}
    assert again == report


def test_a_privileged_expert_finds_all_by_reading_and_says_so(phantom_store: Store):
    asked = report_of(phantom_store, "--expert", "annotations", "--source", "phantom", "--questions", 1000)
    recorded = report_of(phantom_store, *RECORDED)
    for report in (asked, recorded):
        assert report["privileged"]
        assert {one["share"]["value"] for one in report["recall"]} == {1.0}
        assert {one["share"]["value"] for one in report["surest"]} == {1.0}
        assert report["scan"]["auroc"] == 1.0
    assert asked["expert"] == recorded["expert"]
    assert asked["recall"] == recorded["recall"]
    assert asked["scan"] == recorded["scan"]


def test_people_are_told_the_same(phantom_store: Store, tmp_path: Path):
    told = fovea("audit", "--store", phantom_store.root, *RECORDED, "--split", "test", "--out", tmp_path / "out")
    assert (told.returncode, told.stdout) == (0, "")
    for words in ("no evidence of skill", "regions found", "first drill", "cost per question", "left out"):
        assert words in told.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["reliability.svg", "report.html"]
    html = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "no evidence of skill" in html
    assert "<script" not in html
    svg = ET.parse(tmp_path / "out" / "reliability.svg").getroot()
    names = {"".join(one.itertext()) for one in svg.iter("{http://www.w3.org/2000/svg}text")}
    assert {"scan", "first drill", "calibrated", "mean confidence of the bin", "share right"} <= names


def test_the_curve_has_a_point_for_each_bin_where_its_values_are(tmp_path: Path):
    """Confidences 0.25 (right 1 of 4) and 0.75 (right 2 of 4), drilled to 0.5; the plot is 356 by 186 wide and high."""
    script = [(0.25, at < 1, 0.5) for at in range(4)] + [(0.75, at < 2, 0.5) for at in range(4)]
    report = measured(store_of(tmp_path / "store", 8), TellingExpert(script))
    svg = ET.fromstring(picture(report))
    lines = [one.get("points", "") for one in svg.iter("{http://www.w3.org/2000/svg}polyline")]
    curves = [points for points in lines if not points.endswith(",14")]  # the others are the legend's
    left, foot, wide, high = 52, 200, 356, 186
    expected = [[(0.25, 0.25), (0.75, 0.5)], [(0.5, 3 / 8)], [(0, 0), (1, 1)]]
    drawn = [[(left + wide * x, foot - high * y) for x, y in curve] for curve in expected]
    found = [[tuple(map(float, point.split(","))) for point in points.split()] for points in curves]
    assert found == [[pytest.approx(point, abs=0.01) for point in curve] for curve in drawn]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_no_word_of_the_picture_is_cut_off(tmp_path: Path):
    """The labels of both axes and the legend lie within the picture as a browser shows it, in its own pixels."""
    svg = picture(measured(store_of(tmp_path / "store", 3), TellingExpert([(0.5, True, 0.75)])))
    probe = """<script>const inside = one => { const at = one.getBoundingClientRect();
      return at.left &gt;= 0 &amp;&amp; at.top &gt;= 0 &amp;&amp; at.right &lt;= 840 &amp;&amp; at.bottom &lt;= 532 };
      const words = [...document.querySelectorAll("text")];
      document.documentElement.id = words.filter(inside).length + " of " + words.length</script>"""
    (tmp_path / "picture.svg").write_text(svg.replace("</svg>\n", f"{probe}</svg>\n"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    line = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "picture.svg").as_uri()]
    env = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=env, check=True)
    n_words = svg.count("<text")
    assert f'id="{n_words} of {n_words}"' in done.stdout


def test_clear_images_alone_have_a_page(tmp_path: Path):
    questions = [asked(0, drawn_image(0), regions=())]
    stated = [Finding(drawn_image(0).image_id, "mass", 0, "reader", "drawn")]
    report = measured(store_with(tmp_path / "store", questions, stated, 1), TellingExpert([(0.75, False, 0.5)]))
    assert "on clear images, 1 of 1 questions: 100.0 % with a box" in page(report)
    ET.fromstring(picture(report))
    show(report)


def test_names_from_a_data_set_are_words_and_never_markup(tmp_path: Path):
    """Who drew a box, and why a call failed, is said by others."""
    hostile = "<img src=x onerror=alert(1)>&\"'\x00"
    regions = (Region(SPOT, "spot", hostile),)
    report = measured(store_of(tmp_path / "store", 2, regions=regions), TellingExpert([(0.5, True, 0.75)]))
    html = page(replace(report, expert=hostile, failures={hostile: 1}))
    assert "<img" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") == 4  # title, heading, boxes, failures
    assert "\x00" not in html


def test_a_source_may_be_named_by_a_pattern_and_is_read_as_itself(phantom_store: Store):
    """The annotations of a phantom are seen at the size that its policy sees."""
    line = ("--expert", "annotations", "--questions", 3)
    whole, pattern = (report_of(phantom_store, *line, "--source", name) for name in ("phantom", "phan*"))
    assert pattern["expert"] == whole["expert"]


def test_an_expert_that_says_nothing_has_a_page_too(tmp_path: Path):
    report = measured(store_of(tmp_path / "store", 2), TellingExpert([None]))
    assert "there was nothing to measure" in page(report)
    ET.fromstring(picture(report))
    assert json.dumps(report.to_json("store"), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--questions", 5), "--questions is for measuring an expert"),
        (("--out", "folder"), "--out is for measuring an expert"),
        (("--expert", "saliency"), "asked about one source"),
        ((*ASKED, *RECORDED), "asked about one source"),
        ((*RECORDED, "--source", "phantom"), "--source is for an expert that is asked now"),
        ((*RECORDED, "--looks-max", 2), "--looks-max is for an expert that is asked now"),
        ((*ASKED, "--strict"), "--strict is for a store"),
        ((*ASKED, "--truth", "some"), "--truth 'some' is none of"),
        ((*ASKED, "--expert-set", "work_px"), "is not name=value"),
        ((*ASKED, "--expert-set", "work_px=1"), "work_px must be"),
        (("--expert", "nobody", "--source", "phantom"), "there is no expert"),
        (("--expert", "saliency", "--source", "slake"), "no slice matches"),
    ],
)
def test_wrong_usage_is_told(phantom_store: Store, options: tuple[object, ...], words: str):
    told = invoke(phantom_store, *options)
    assert isinstance(told.exception, UsageError)
    assert words in str(told.exception)
    assert told.stdout == ""


def test_restricted_images_are_not_sent_before_somebody_says_so(tmp_path: Path):
    store = store_of(tmp_path / "store", 2)
    commit(store, lambda before: replace(before, licences=("PhysioNet-Credentialed-1.5.0",)), INGEST)
    told = ("url=http://model.invalid/v1", "model=seer", "coordinates=absolute", "tries=1")
    options = [each for setting in told for each in ("--expert-set", setting)]
    line = ("--expert", "openai", "--source", "drawn", *options)
    assert "would be sent to model.invalid" in str(invoke(store, *line).exception)
    assert isinstance(invoke(store, *line, "--send-restricted").exception, ExpertError)  # there is no such server
