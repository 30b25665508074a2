"""Where Baton may call (SSRF guard): the address of a host is looked up once, judged, and called.

Link-local addresses, where clouds keep their secrets, never; private ones by setting; loopback
where Baton itself listens on loopback, or by the same setting.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, replace

import httpx

from service.runtime.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenAddressError(ValueError):
    """Baton may not call there; the message says why, and by which setting it may."""


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses besides public ones may be called."""

    loopback: bool
    private: bool

    @classmethod
    def of(cls, settings: Settings) -> AddressPolicy:
        return cls(
            loopback=_is_own(settings.host) or settings.connect_private,
            private=settings.connect_private,
        )

    def require(self, address: Address) -> None:
        """Raises ForbiddenAddressError."""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            self.require(address.ipv4_mapped)
        elif address.is_loopback:
            if not self.loopback:
                raise ForbiddenAddressError(f"{address} is this host's own: {_HINT}")
        elif address.is_link_local or address.is_multicast or address.is_unspecified:
            raise ForbiddenAddressError(f"{address} is never called")
        elif not address.is_global and not self.private:
            raise ForbiddenAddressError(f"{address} is a private address: {_HINT}")


_HINT = "BATON_CONNECT_PRIVATE=true lets Baton call such addresses"


def check_url(text: str, policy: AddressPolicy) -> httpx.URL:
    """An http or https URL whose address, where it is written out, may be called.

    Raises ForbiddenAddressError.
    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ForbiddenAddressError(f"{text!r} is no URL") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ForbiddenAddressError("it takes an http or https URL with a host")
    if url.userinfo:
        raise ForbiddenAddressError("a URL with a name and password is not taken")
    try:
        address = ipaddress.ip_address(url.host)
    except ValueError:
        if url.host == "localhost":
            policy.require(ipaddress.ip_address("127.0.0.1"))
    else:
        policy.require(address)
    return url


def _is_own(host: str) -> bool:
    """Whether a host is written as loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def resolve(url: httpx.URL, policy: AddressPolicy) -> str:
    """The address to call for a URL; all of the host's must be allowed, and a name that leads to
    loopback is only where private ones are: whoever made the URL would have written it out. Raises
    ForbiddenAddressError, OSError.
    """
    policy = replace(policy, loopback=policy.private or (policy.loopback and _is_own(url.host)))
    port = url.port or (443 if url.scheme == "https" else 80)
    entries = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in entries]
    for address in addresses:
        policy.require(address)
    return str(addresses[0])
