"""Restricted images stay on this machine until somebody says otherwise."""

from dataclasses import replace

import pytest

from pipeline.adapters.commits import commit
from pipeline.stages.consent import check_consent
from schemas.errors import UsageError
from tests.pipeline.small_stores import INGEST
from tests.processes import fovea

HELD = "PhysioNet-Credentialed-1.5.0"


@pytest.mark.parametrize("url", ["http://localhost:8000/v1", "http://127.0.0.1:1/v1", "http://[::1]:8000/v1"])
def test_this_machine_may_see_everything(url):
    check_consent(url, [HELD, "CC0-1.0"])


@pytest.mark.parametrize("url", ["https://api.example.org/v1", "http://10.0.0.7/v1", "http://localhost.example.org/v1"])
def test_others_may_see_what_may_be_passed_on(url):
    check_consent(url, ["CC0-1.0", "CC-BY-4.0"])
    for licence in (HELD, "LicenseRef-PathVQA", "a licence that nobody knows"):
        with pytest.raises(UsageError, match="would be sent to"):
            check_consent(url, ["CC0-1.0", licence])


@pytest.mark.parametrize(("flag", "code"), [((), 2), (("--send-restricted",), 1)])
def test_the_command_asks_before_anything_is_sent(own_store, flag, code):
    """With the flag it goes on, to a server that there is not."""
    commit(own_store, lambda before: replace(before, licences=(HELD,)), INGEST)
    told = ("url=http://model.invalid/v1", "model=seer", "coordinates=absolute", "tries=1")
    options = [each for setting in told for each in ("--expert-set", setting)]
    line = ("build-trajectories", "--store", own_store.root, "--source", "drawn", "--expert", "openai", *options, *flag)
    made = fovea(*line)
    assert (made.returncode, made.stderr.count("Traceback")) == (code, 0), made.stderr
    assert (f"images under {HELD} would be sent to model.invalid" in made.stderr) == (not flag)
