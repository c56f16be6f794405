"""Where webhooks may be sent to: https, and addresses of the public Internet alone.

Whoever may make an endpoint could else have the service knock on doors of its own network. A name
can resolve to anything, and to something else the next time; so the URL is only the first question,
and `permits` is asked of every address, at save and again of the very one that is connected to.

The lists are IANA's special-purpose address registries (RFC 6890 and its updates) and the prefixes
that carry an IPv4 address in an IPv6 one: mapped and compatible, NAT64, 6to4, Teredo.
"""

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv6Address,
    IPv6Network,
    ip_network,
)
from typing import Final
from urllib.parse import urlsplit

from app.domain.errors import Breach, UrlRefused

LONGEST: Final = 2_000
_URL: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"{_NAME}|[0-9A-Fa-f:.]{{2,45}}")

Address = IPv4Address | IPv6Address

_NOT_PUBLIC: Final = tuple(
    ip_network(written)
    for written in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        # Of the global unicast addresses: protocol assignments with Teredo, documentation, 6to4.
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
# All that is given out for the public Internet; what carries IPv4, is local, is for many or is not
# assigned lies outside of it.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be tried. `path` is what the request line says, the query included."""

    scheme: str
    host: str
    port: int
    path: str

    def permits(self, address: Address, *, allow_loopback: bool) -> bool:
        """Whether a host of this URL may be at the address; plain http stays in the machine."""
        if address.is_loopback:
            return allow_loopback
        return self.scheme == "https" and is_public(address)


def target_of(url: str, *, allow_loopback: bool) -> Target:
    """The parts of a URL to which webhooks may be sent. Raises UrlRefused."""
    if len(url) > LONGEST:
        raise _refused("too_long", f"A URL has at most {LONGEST:,} characters.")
    if not _URL.fullmatch(url) or "\\" in url:
        raise _refused("wrong_format", "A URL is written in printable ASCII, the rest encoded.")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _refused("wrong_format", "It is not written as a URL.") from error
    schemes = ("https", "http") if allow_loopback else ("https",)
    if parts.scheme not in schemes:
        raise _refused("not_one_of", "A webhook's URL begins with https://.")
    if "@" in parts.netloc:
        raise _refused("wrong_format", "A URL bears no user and no password.")
    if "#" in url:
        raise _refused("wrong_format", "A URL has no fragment: it would never be sent.")
    if parts.hostname is not None and parts.hostname.endswith("."):
        raise _refused("wrong_format", "A host is written without the dot at its name's end.")
    if parts.hostname is None or not _HOST.fullmatch(parts.hostname):
        raise _refused("wrong_format", "A URL needs the name or the address of a host.")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or parts.netloc.endswith(":"):
        raise _refused("out_of_range", "A port is a number from 1 to 65535.")
    return Target(
        parts.scheme,
        parts.hostname,
        port or (443 if parts.scheme == "https" else 80),
        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
    )


def is_public(address: Address) -> bool:
    """Whether the address is one of the public Internet, reached as itself."""
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def unresolvable() -> UrlRefused:
    """The host's name leads to no address."""
    return _refused("unresolvable", "No address is known for the host.")


def not_public() -> UrlRefused:
    """The host's name leads to an address that is none of the public Internet."""
    return _refused("not_public", "The host has an address that is not of the public Internet.")


def _refused(code: str, detail: str) -> UrlRefused:
    return UrlRefused(detail, [Breach("/url", code, detail)])
