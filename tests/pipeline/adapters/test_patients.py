"""Patient keys: null where nothing may be told, else an HMAC that says only 'same patient of the same source'."""

import hashlib
import hmac

import pytest

from pipeline.adapters.patients import PUBLIC_KEY, patient_key
from schemas.errors import UsageError

SECRET = b"0123456789abcdef"


@pytest.mark.parametrize(
    ("patient", "key", "restricted", "used"),
    [
        ("p1", None, True, None),  # restricted without a key: nothing is told
        ("p1", None, False, PUBLIC_KEY),
        ("p1", SECRET, True, SECRET),
        ("p1", SECRET, False, SECRET),
        (None, SECRET, False, None),
        ("", SECRET, False, None),
    ],
)
def test_which_key_is_used(patient, key, restricted, used):
    expected = None if used is None else hmac.new(used, b"3:nih2:p1", hashlib.sha256).hexdigest()
    assert patient_key("nih", patient, key, restricted) == expected


def test_source_and_patient_do_not_run_together():
    assert patient_key("nih1", "2", SECRET, False) != patient_key("nih", "12", SECRET, False)
    assert patient_key("nih", "12", SECRET, False) != patient_key("rsna", "12", SECRET, False)


def test_the_public_key_is_frozen():
    """Another value would quietly part stores that share patients."""
    found = patient_key("phantom", "L1/0/0", None, restricted=False)
    assert found == "4f8d0e837ab8816c74c218bbd4721c805beebc428262b950ed5789e0d035d77f"


@pytest.mark.parametrize("key", [b"", b"short"])
def test_a_guessable_key_is_refused(key):
    with pytest.raises(UsageError, match="at least 16 bytes"):
        patient_key("nih", "p1", key, restricted=True)
