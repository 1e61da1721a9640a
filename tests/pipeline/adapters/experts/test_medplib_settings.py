"""Settings of the `medplib` expert: what enters its identity, and what is refused before anything is asked."""

import json
from dataclasses import replace

import pytest

from pipeline.adapters.experts.medplib import SILENT, MedplibExpert
from pipeline.adapters.experts.medplib_contract import REGION
from pipeline.adapters.experts.medplib_wording import SHIPPED, Wording
from pipeline.adapters.experts.registry import make_expert
from schemas.errors import InputError, UsageError


def test_the_identity_names_what_changes_an_answer_and_nothing_else(tmp_path):
    base = MedplibExpert(url="http://a/v1", revision="r")
    others = {"url": "https://b/v1", "concurrency": 64, "read_s": 1.0, "tries": 9}
    assert {replace(base, **{name: value}).identity.id for name, value in others.items()} == {base.identity.id}
    own = tmp_path / "mine.toml"
    own.write_text(SHIPPED.read_text(encoding="utf-8") + "\n# mine", encoding="utf-8")
    changes = {
        "revision": "x",
        "prompts": str(own),
        "drill_on": "whole",
        "view_px": 300,
        "crop_px": 300,
        "boxes_max": 2,
    }
    ids = {replace(base, **{name: value}).identity.id for name, value in changes.items()}
    assert len(ids | {base.identity.id}) == len(changes) + 1
    told = json.dumps(replace(base, prompts=str(own)).identity.settings)
    assert "://" not in told
    assert str(tmp_path) not in told
    assert not SILENT & dict(base.identity.settings).keys()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "file:///etc"}, "no plain http"),
        ({"revision": ""}, "revision is missing"),
        ({"revision": 7}, "revision cannot be 7"),
        ({"drill_on": "half"}, "drill_on must be"),
        ({"view_px": 2}, "view_px must be at least 28"),
        ({"crop_px": 1.5}, "crop_px cannot be"),
        ({"boxes_max": 65}, "at most 64"),
        ({"tries": 0}, "tries must be"),
        ({"api_key": "sk-x"}, "unknown settings"),
    ],
)
def test_wrong_settings_are_usage_errors(wrong, why):
    with pytest.raises(UsageError, match=why) as raised:
        make_expert("medplib", {"url": "http://a/v1", "revision": "r"} | wrong)
    assert "sk-x" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('scan = "x"', "no 'drill' in it"),
        (f'scan = "$answer"\ndrill = "{REGION}"', "stands for none of question"),
        (f'scan = "x <SEG>"\ndrill = "{REGION}"', "<SEG>"),
        ('scan = "x"\ndrill = "Is <region>here</region> bright?"', "0 times, not 1"),
        ('scan = ""\ndrill = ""', "has to be text"),
        ("scan = ", "cannot be used"),
    ],
)
def test_prompts_that_cannot_be_asked_are_refused(tmp_path, text, why):
    (tmp_path / "odd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="cannot be used") as raised:
        Wording.read(tmp_path / "odd.toml")
    assert why in str(raised.value)
