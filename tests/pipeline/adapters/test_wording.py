import hashlib
from pathlib import Path

import pytest

from pipeline.adapters.experts import wording
from pipeline.adapters.experts.wording import FAMILIES, Wording
from schemas.errors import InputError

SHIPPED = Path(wording.__file__).parent / "prompts" / "openai.toml"


def test_the_shipped_prompts_say_what_the_reader_needs():
    told = Wording.named("openai")
    assert told.sha256 == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    scan = told.scan("Is $x {bad}?", "absolute", (640, 480), 5)
    assert all(each in scan for each in ("Is $x {bad}?", "640 wide", "480 high", "at most 5", '"bbox_2d"', "Reply []"))
    assert "1000" in told.check("thousand", (640, 480))
    drill = told.drill("Is it?", "nodule", stated=False)
    assert all(each in drill for each in ("Is it?", "nodule", "yes or no"))
    assert '"probability"' in told.drill("Is it?", "nodule", stated=True)
    assert len({told.scan("", family, (1, 1), 1) for family in FAMILIES}) == 3


def test_line_ends_of_another_system_change_nothing(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(SHIPPED.read_bytes().replace(b"\n", b"\r\n"))
    assert Wording.read(path).sha256 == Wording.named("openai").sha256


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("scan =", "scanned =", "no 'scan' in it"),
        ("$label", "$answer", "answer"),
        ("$label", "costs $ 5", "a lone"),
        ("[coordinates]", "[others]", "no 'coordinates' in it"),
        ('scan = """', 'scan = """"""\n"""', "cannot be used"),
    ],
)
def test_a_file_that_cannot_be_filled_in_is_refused(tmp_path, old, new, why):
    path = tmp_path / "mine.toml"
    path.write_text(SHIPPED.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=why):
        Wording.read(path)


def test_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="prompts cannot be used"):
        Wording.read(tmp_path / "none.toml")
