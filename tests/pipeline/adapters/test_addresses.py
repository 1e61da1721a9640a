import pytest

from pipeline.adapters.addresses import JUDGE, api_key, checked_address, retry_after_s
from schemas.errors import UsageError

OPENAI = "https://api.openai.com/v1"
BOTH = {"FOVEA_EXPERT_API_KEY": " ours ", "OPENAI_API_KEY": "theirs"}


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://127.0.0.1:8000/v1", BOTH, "ours"),
        ("http://127.0.0.1:8000/v1", {"OPENAI_API_KEY": "theirs"}, None),
        (OPENAI, BOTH, "ours"),
        (OPENAI, {"OPENAI_API_KEY": "theirs"}, "theirs"),
        ("http://api.openai.com/v1", {"OPENAI_API_KEY": "theirs"}, None),
        ("https://api.openai.com.example.org/v1", {"OPENAI_API_KEY": "theirs"}, None),
        (OPENAI, {"FOVEA_EXPERT_API_KEY": "  "}, None),
    ],
)
def test_a_key_goes_only_where_it_belongs(url, environment, expected):
    assert api_key(url, environment) == expected
    ours = {name.replace("EXPERT", "JUDGE"): key for name, key in environment.items()}
    assert api_key(url, ours, JUDGE) == expected
    assert api_key(url, {**ours, "OPENAI_API_KEY": ""}) is None  # of the other role


def test_a_key_that_no_header_takes_is_refused_without_being_told():
    for key in ("sk-sécret", "sk-se\ncret"):
        with pytest.raises(UsageError) as raised:
            api_key(OPENAI, {"OPENAI_API_KEY": key})
        assert "OPENAI_API_KEY" in str(raised.value)
        assert "cret" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "localhost:8000/v1",
        "ftp://x/v1",
        "file:///etc",
        "http://",
        "http://[::1",
        "http://me:secret@x/v1",
        "https://x/v1?key=secret",
        "https://x/v1#secret",
        None,
    ],
)
def test_an_address_with_a_secret_or_no_address_is_refused(url):
    with pytest.raises(UsageError) as raised:
        checked_address(url)
    assert "secret" not in str(raised.value)


def test_an_address_ends_without_a_slash():
    assert str(checked_address("http://127.0.0.1:8000/v1/")) == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("said", "dated", "expected"),
    [
        ("7", "", 7.0),
        (" 0 ", "nonsense", 0.0),
        ("Fri, 02 Jan 1970 00:01:00 GMT", "Fri, 02 Jan 1970 00:00:00 GMT", 60.0),  # whatever our clock says
        ("Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 02 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 02 Jan 1970 00:01:00 GMT", "", None),
        ("Fri, 02 Jan 1970 00:01:00 GMT", "Fri, 02 Jan 1970 00:00:00", None),
        ("", "Fri, 02 Jan 1970 00:00:00 GMT", None),
        ("soon", "Fri, 02 Jan 1970 00:00:00 GMT", None),
        ("-5", "", None),
        ("1.5", "", None),
        ("Mon, 01 Jan 99999999999 00:00:00 +0000", "Fri, 02 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date_of_the_servers_clock(said, dated, expected):
    assert retry_after_s(said, dated) == expected
