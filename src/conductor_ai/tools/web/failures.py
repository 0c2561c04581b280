"""Why a page could not be had, in one line that tells the model what to try."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

from conductor_ai.errors import ConductorError

if TYPE_CHECKING:
    import aiohttp


class FetchFailed(ConductorError):
    """No page, and why. A message that begins with `refused:` is a rule of ours; any other is what the net did."""

    code = "fetch_failed"


class NotConnected(FetchFailed):
    """Nothing was sent: the host was not found, not reached or not trusted."""

    code = "not_connected"


class TooManyRedirects(FetchFailed):
    """A chain that was not followed to its end."""

    code = "too_many_redirects"


def refused(reason: str) -> FetchFailed:
    """A fetch that this tool does not make, whatever the server would say."""
    return FetchFailed(f"refused: {reason}")


def of_network(exc: aiohttp.ClientError | OSError, host: str, *, port: int) -> FetchFailed:
    """What a failed exchange with `host` means for who wants the page."""
    import aiohttp

    cause = exc.os_error if isinstance(exc, aiohttp.ClientConnectorError) else exc
    if isinstance(exc, aiohttp.ClientConnectorDNSError) or isinstance(cause, socket.gaierror):
        return NotConnected(f"the name {host} was not found in DNS: check its spelling, or look for the site elsewhere")
    if isinstance(exc, aiohttp.ClientSSLError) or isinstance(cause, ssl.SSLError):
        return NotConnected(
            f"no secure connection to {host}: its TLS certificate or handshake was not accepted"
            f" ({_tls_reason(exc, cause)}); use another source"
        )
    if isinstance(cause, ConnectionRefusedError):
        return NotConnected(f"{host} accepts no connection on port {port}: check the URL, or use another source")
    if isinstance(exc, aiohttp.ClientConnectorError):
        return NotConnected(f"{host} cannot be reached ({_one_line(cause)}): try again later, or use another source")
    if isinstance(exc, aiohttp.ClientResponseError):
        return FetchFailed(
            f"{host} sent an answer that is not proper HTTP, or headers that are too large"
            f" ({_one_line(exc.message)}): use another source"
        )
    if isinstance(exc, aiohttp.ClientPayloadError):
        return FetchFailed(f"the answer of {host} broke off before its end: try once more, or use another source")
    return FetchFailed(f"{host} closed the connection before it answered: try once more, or use another source")


def _tls_reason(exc: Exception, cause: object) -> str:
    for error in (cause, getattr(exc, "certificate_error", None)):
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if isinstance(error, ssl.SSLError) and error.reason:
            return error.reason.lower().replace("_", " ")
    return type(exc).__name__


def _one_line(what: object) -> str:
    return " ".join(str(what).split())[:200] or type(what).__name__
