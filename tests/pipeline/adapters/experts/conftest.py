"""What tests of experts share: the trained tiny model of `hf`, made once, read only, and experts of `medplib`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.adapters.experts.medplib import MedplibExpert
from tests.pipeline.adapters.experts.medplib_asks import KEY, MINE, QUICK
from tests.pipeline.adapters.experts.tiny_seer import make_seer


@pytest.fixture(scope="session")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoint folder, prompts.toml in it."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the last bits are the same on every run
    yield make_seer(tmp_path_factory.mktemp("seer") / "model")
    torch.set_num_threads(n_threads)


@pytest.fixture
def medplib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., MedplibExpert]]:
    """Makes experts of a service, with prompts that name the question, and closes them."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("FOVEA_EXPERT_API_KEY", KEY)
    (tmp_path / "mine.toml").write_text(MINE, encoding="utf-8")
    made: list[MedplibExpert] = []

    def make(service, **told: object) -> MedplibExpert:
        made.append(MedplibExpert(url=service.url, **{"prompts": str(tmp_path / "mine.toml"), **QUICK, **told}))
        return made[-1]

    yield make
    for each in made:
        each.close()
