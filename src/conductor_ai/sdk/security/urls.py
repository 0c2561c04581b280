"""A URL of the web, read one way only.

Two parsers that disagree about a URL are how a check is passed and another host is reached. This one takes what is
plain and refuses what is open to a second reading; its canonical text means the same to the HTTP client (the tests hold
both together). Source: RFC 3986, and the URL standard of the WHATWG where the two differ on what is sent.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security.hosts import parse_host

MAX_URL_LENGTH = 8192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")
# Kept as they are; everything else becomes UTF-8 in percent form. RFC 3986, plus brackets, which queries really use.
_KEPT_IN_PATH = "/%:@!$&'()*+,;=[]"
_KEPT_IN_QUERY = _KEPT_IN_PATH + "?"


@dataclass(frozen=True, slots=True)
class WebURL:
    """An http or https URL in canonical form, without fragment and user info. `parse_web_url` makes it, nothing else.

    Syntax only: whether its host and port may be asked is the checker's to say.

    Args:
        scheme: "http" or "https".
        host: A canonical address, IPv6 without brackets, or an ASCII name in lower case without trailing dot.
        port: 1 to 65535.
        target: Path and query as they are sent, encoded; begins with a slash.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """As in "https://example.com" or "http://[2001:500::1]:8080"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def text(self) -> str:
        return self.origin + self.target

    def join(self, location: str) -> WebURL:
        """Where a redirect from here to `location` leads: read as strictly as a first URL; may be relative.

        Raises: SSRFError also for a step from https to http, and for `//host`, which leaves the scheme to guesswork.
        """
        _refuse_characters(location)
        if location.startswith("//"):
            raise SSRFError(f"the redirect to {_shown(location)} names a host without a scheme")
        if not _SCHEME.match(location):
            return self._at(location.partition("#")[0])
        url = parse_web_url(location)
        if self.scheme == "https" and url.scheme == "http":
            raise SSRFError(f"the redirect from {self.origin} to {url.origin} gives up encryption")
        return url

    def _at(self, reference: str) -> WebURL:
        """A reference without scheme and host, resolved here (RFC 3986, 5.2)."""
        path, _, _ = self.target.partition("?")
        if not reference:
            reference = self.target
        elif reference.startswith("?"):
            reference = path + reference
        elif not reference.startswith("/"):
            reference = path[: path.rindex("/") + 1] + reference
        return _checked_length(WebURL(self.scheme, self.host, self.port, _target(reference)))


def parse_web_url(text: str) -> WebURL:
    """Read a URL strictly.

    A missing path becomes "/", dot segments are resolved, a default port and an empty query are dropped. In path and
    query, spaces and characters outside ASCII become percent-encoded UTF-8; what is encoded stays as it is.

    Raises: SSRFError for whatever is not plainly an http or https URL.
    """
    _refuse_characters(text)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        raise SSRFError(f"{_shown(text)} does not begin with http:// or https://")
    rest, _, _ = rest.partition("#")
    end = min(position for position in (rest.find("/"), rest.find("?"), len(rest)) if position >= 0)
    host, port = _host_and_port(rest[:end], scheme)
    target = rest[end:]
    return _checked_length(WebURL(scheme, host, port, _target(target if target.startswith("/") else "/" + target)))


def split_port(authority: str) -> tuple[str, str | None]:
    """`host:port` or `[address]:port` in its two parts; None where there is no colon behind the host."""
    if authority.startswith("["):
        host, bracket, rest = authority.partition("]")
        if rest and not rest.startswith(":"):
            raise SSRFError(f"{_shown(authority)} is not a host and a port")
        return host + bracket, rest[1:] if rest else None
    host, colon, port = authority.partition(":")
    return host, port if colon else None


def parse_port(text: str) -> int:
    """Decimal, without leading zeros, 1 to 65535. Raises: SSRFError for anything else, nothing included."""
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise SSRFError(f"{_shown(text)} is not a port")
    return int(text)


def _host_and_port(authority: str, scheme: str) -> tuple[str, int]:
    if "@" in authority:
        raise SSRFError("the URL has a user name or password before its host", hint="Leave out everything up to the @.")
    host, port = split_port(authority)
    return parse_host(host), _DEFAULT_PORTS[scheme] if port is None else parse_port(port)


def _refuse_characters(text: str) -> None:
    if len(text) > MAX_URL_LENGTH:
        raise SSRFError(f"the URL is longer than {MAX_URL_LENGTH} characters")
    if text != text.strip():
        raise SSRFError("the URL begins or ends with white space")
    if "\\" in text:
        raise SSRFError(
            "the URL has a backslash, which some programs read as a slash", hint="Write %5C if it is meant."
        )
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise SSRFError("the URL has control characters or broken text")


def _target(text: str) -> str:
    """Path and query in the form that is sent."""
    path, _, query = text.partition("?")
    path = _without_dot_segments(_encoded(path, _KEPT_IN_PATH))
    return f"{path}?{_encoded(query, _KEPT_IN_QUERY)}" if query else path


def _encoded(text: str, kept: str) -> str:
    return quote(_STRAY_PERCENT.sub("%25", text), safe=kept)


def _without_dot_segments(path: str) -> str:
    """RFC 3986, 5.2.4. An encoded dot counts as one, as in browsers: a server, and robots.txt, will read it so."""
    segments: list[str] = []
    parts = path.split("/")[1:]
    for number, part in enumerate(parts, start=1):
        dots = re.sub("%2e", ".", part, flags=re.IGNORECASE)
        if dots not in (".", ".."):
            segments.append(part)
            continue
        if dots == ".." and segments:
            segments.pop()
        if number == len(parts):
            segments.append("")
    return "/" + "/".join(segments)


def _checked_length(url: WebURL) -> WebURL:
    if len(url.text) > MAX_URL_LENGTH:
        raise SSRFError(f"the URL is longer than {MAX_URL_LENGTH} characters")
    return url


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
