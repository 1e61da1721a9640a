"""Where a remote expert or judge lives and the key it wants: a plain http(s) address, a key from the environment alone.

An address that holds a password or a query is refused, because addresses stand in error messages. A key is never a
setting, so it can reach no manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx2

from schemas.errors import UsageError

OPENAI_KEY, OPENAI_HOST = "OPENAI_API_KEY", "api.openai.com"


@dataclass(frozen=True, slots=True)
class Role:
    """Whom we ask, in the words of an error."""

    name: str
    key: str  # of the environment
    option: str  # that gives the url
    kept: str  # what is not lost when asking ends


EXPERT = Role("expert", "FOVEA_EXPERT_API_KEY", "--expert-set url=", "finished shards are kept")
JUDGE = Role("judge", "FOVEA_JUDGE_API_KEY", "--judge-url ", "verdicts so far are in the judge log")


def checked_address(url: str, role: Role = EXPERT) -> httpx2.URL:
    """The address without a slash at its end; UsageError, which does not repeat it, for what is none."""
    try:
        address = httpx2.URL(url.rstrip("/") if isinstance(url, str) else "")
    except httpx2.InvalidURL:
        address = httpx2.URL("")
    extra = address.userinfo or address.query or address.fragment
    if address.scheme not in ("http", "https") or not address.host or extra:
        raise UsageError(
            f"the {role.name}'s url is no plain http or https address",
            fix=f"like {role.option}http://127.0.0.1:8000/v1, with the key in the environment as {role.key}",
        )
    return address


def api_key(url: str, environment: Mapping[str, str], role: Role = EXPERT) -> str | None:
    """The key of the role for any address; OPENAI_API_KEY only for OpenAI's own, over https."""
    address = checked_address(url, role)
    is_openai = address.scheme == "https" and address.host == OPENAI_HOST
    for name in (role.key, OPENAI_KEY) if is_openai else (role.key,):
        if key := environment.get(name, "").strip():
            if not (key.isascii() and key.isprintable()):
                raise UsageError(f"{name} holds a character that no header takes")
            return key
    return None


def retry_after_s(said: str, dated: str) -> float | None:
    """Seconds a Retry-After header asks to wait: a number, or a date beside the reply's own Date; None for neither.

    Both dates are of the server's clock: ours may be wrong, or set while we wait.
    """
    said = said.strip()
    if said.isascii() and said.isdigit():
        return float(said[:12])
    try:
        pause = parsedate_to_datetime(said) - parsedate_to_datetime(dated)
    except (ValueError, TypeError, OverflowError):  # TypeError: one of them is without a zone
        return None
    return max(0.0, pause.total_seconds())
