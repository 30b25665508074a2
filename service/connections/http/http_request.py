"""One HTTP request to another system: to the judged address of its host, within a time, and no
redirect followed. Of an answer little is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from service.connections.http.addresses import (
    AddressPolicy,
    ForbiddenAddressError,
    check_url,
    resolve,
)

ANSWER_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came of it: a status, or an error. `is_sent`: the other system may have had it."""

    status: int | None = None
    error: str | None = None
    is_sent: bool = True
    retry_after: float = 0.0
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


async def send(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    policy: AddressPolicy,
    seconds: float,
    *,
    reads: bool = False,
) -> HttpAnswer:
    """Send it once, within so many seconds whatever the far side does."""
    is_sent = False
    try:
        target = check_url(url, policy)
        async with asyncio.timeout(seconds):
            address = await asyncio.to_thread(resolve, target, policy)
            request = client.build_request(
                method,
                target.copy_with(host=address),
                headers=dict(headers) | {"host": target.netloc.decode("ascii")},
                content=body,
                extensions={"sni_hostname": target.host},
            )
            is_sent = True
            response = await client.send(request, stream=True)
            read = await _read(response) if reads else b""
            await response.aclose()
    except (ForbiddenAddressError, httpx.ConnectError, httpx.ConnectTimeout) as error:
        return HttpAnswer(error=f"{type(error).__name__}: {error}"[:500], is_sent=False)
    except TimeoutError:
        return HttpAnswer(error=f"no answer within {seconds:g} seconds", is_sent=is_sent)
    except (httpx.InvalidURL, ValueError) as error:  # a path or header that nobody can send
        return HttpAnswer(400, f"{type(error).__name__}: {error}"[:500], is_sent=False)
    except (httpx.HTTPError, OSError) as error:
        return HttpAnswer(error=f"{type(error).__name__}: {error}"[:500], is_sent=is_sent)
    return HttpAnswer(response.status_code, retry_after=_retry_after(response), body=read)


async def _read(response: httpx.Response) -> bytes:
    read = b""
    async for piece in response.aiter_raw():
        read += piece
        if len(read) > ANSWER_BYTES_MAX:
            break
    return read[:ANSWER_BYTES_MAX]


def _retry_after(response: httpx.Response) -> float:
    header = response.headers.get("retry-after", "")
    return float(header[:9]) if header.isascii() and header.isdecimal() else 0.0
