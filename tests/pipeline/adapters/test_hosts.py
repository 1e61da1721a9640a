"""What this machine is called."""

import pytest

from pipeline.adapters.hosts import is_this_machine


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("a.b", False)],
)
def test_only_its_own_addresses_and_localhost_are_this_machine(host: str, is_here: bool):
    assert is_this_machine(host) is is_here
