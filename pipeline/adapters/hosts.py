"""Whether an address is of this machine: what goes there leaves it for nobody, and through no proxy."""

from ipaddress import ip_address


def is_this_machine(host: str) -> bool:
    """`host` as an address names it; another name is another machine, whatever a resolver would say of it."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
