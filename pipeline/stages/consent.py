"""May the images of a source be sent to another machine? Terms of use often say no; only their user can say yes."""

from collections.abc import Iterable
from urllib.parse import urlsplit

from pipeline.adapters.hosts import is_this_machine
from pipeline.adapters.sources.licences import may_pass_on
from schemas.errors import UsageError

FLAG = "--send-restricted"


def check_consent(url: str, licences: Iterable[str]) -> None:
    """UsageError for an endpoint beyond this machine and images whose licence does not let them be passed on."""
    held = sorted(licence for licence in licences if not may_pass_on(licence))
    host = urlsplit(url).hostname or ""
    if held and not is_this_machine(host):
        what = f"images under {', '.join(held)} would be sent to {host}"
        raise UsageError(what, fix=f"serve the model on this machine, or say that its terms allow it: {FLAG}")
