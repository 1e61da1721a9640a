"""A real browser shows the whole page on a narrow screen, in light and in dark."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from demo_folders import finished_demo
from pages import Page

from pipeline.stages.demo_report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PROBE = """<script>onload = () => parent.postMessage(JSON.stringify({
  wide: document.documentElement.scrollWidth, window: innerWidth,
  images: [...document.images].filter(one => one.naturalWidth > 0).length,
  paper: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
}), "*")</script>"""
FRAME = """<!doctype html><title>none</title>
<iframe src="inner.html" style="width:400px;height:900px;border:0"></iframe>
<script>onmessage = message => { document.title = message.data }</script>"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    demo = finished_demo(tmp_path_factory.mktemp("shown") / "demo")
    write_report(demo, {})
    return demo.page.read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_browser_shows_it_on_a_narrow_screen(text: str, tmp_path: Path, theme: str):
    """400 pixels wide, in a frame since no window of Chromium is as narrow as that; the copy may run the probe."""
    copy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    (tmp_path / "inner.html").write_text(copy.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    (tmp_path / "outer.html").write_text(FRAME, encoding="utf-8")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking".split()
    flags += [
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    flags += ["--force-dark-mode"] if theme == "dark" else []
    line = [CHROMIUM, *flags, (tmp_path / "outer.html").as_uri()]
    env = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=env, check=True)
    seen = json.loads(Page(done.stdout).texts("title")[0])
    assert seen["wide"] == seen["window"] == 400
    assert seen["images"] == len(Page(text).all("img"))
    bright = [sum(map(int, re.findall(r"\d+", seen[name])[:3])) for name in ("paper", "ink")]
    assert (bright[0] > bright[1] + 400) if theme == "light" else (bright[1] > bright[0] + 400)
