"""The host of a URL: one spelling for each, and the names that never lead to the public Internet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from conductor_ai.errors import SSRFError
from conductor_ai.sdk.security.addresses import parse_address

_MAX_NAME = 253  # RFC 1035 in presentation form, without the trailing dot
_MAX_LABEL = 63
# Underscores are no host names by RFC 1123, yet such names are in use and resolve.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
# What `inet_aton` would take for the last part of an address: decimal, octal or hexadecimal.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# A name equal to one of these, or below one, is about this machine, its network or its cloud.
_LOCAL_NAMES = frozenset(
    {
        "localhost",  # RFC 6761
        "localdomain",
        "local",  # RFC 6762; cluster.local too
        "internal",  # reserved by ICANN in 2024: metadata.google.internal, host.docker.internal, ec2.internal
        "intranet",
        "private",
        "corp",
        "home",
        "lan",
        "home.arpa",  # RFC 8375
        "onion",  # RFC 7686
        "svc",  # services of a Kubernetes cluster, short form: kubernetes.default.svc
        "kubernetes.default",
        "consul",
        "metadata.azure.com",
        "metadata.hetzner.cloud",
        "metadata.packet.net",
        "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)


def parse_host(text: str) -> str:
    """The one spelling of a host as it stands in a URL: an address in canonical form, or an ASCII name in lower case.

    Raises: SSRFError for what is neither, or could be read as two different hosts.
    """
    if text.startswith("["):
        return _ipv6(text)
    if not text:
        raise SSRFError("the URL names no host")
    if "%" in text:
        raise SSRFError(f"the host {text!r} is percent-encoded")
    name = text.removesuffix(".")
    # Before any other work, so that the work is bounded. An ASCII form is never shorter.
    if len(name) > _MAX_NAME:
        raise SSRFError(f"the host name is longer than {_MAX_NAME} characters")
    name = ".".join(_ascii_label(label, text) for label in name.split("."))
    if len(name) > _MAX_NAME:
        raise SSRFError(f"the host name is longer than {_MAX_NAME} characters")
    if _NUMBER.fullmatch(name.rpartition(".")[2]) and parse_address(name) is None:
        raise SSRFError(f"the host {text!r} is a number, but no address written as four decimal numbers")
    return name


def why_not_public_name(name: str) -> str | None:
    """Why a name of `parse_host` is not one of the public Internet, as words that follow it; None if it may be."""
    suffix = below(name, _LOCAL_NAMES)
    if suffix is not None:
        return f"is a name of this machine, of a local network or of a cloud's own services ({suffix})"
    return None if "." in name else "is a name without a domain, which only a local network knows"


def below(name: str, domains: Container[str]) -> str | None:
    """Which of the domains the name is, or is a sub-domain of."""
    while name not in domains:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name


def _ipv6(text: str) -> str:
    inner = text[1:-1]
    if "%" in inner:
        raise SSRFError(f"the address {text!r} has a zone, which is a name for a local network")
    address = parse_address(inner)
    if not text.endswith("]") or ":" not in inner or address is None:
        raise SSRFError(f"{text!r} is not an IPv6 address")
    return str(address)


def _ascii_label(label: str, host: str) -> str:
    if not label.isascii():
        return _encoded_label(label, host)
    label = label.lower()
    if not label:
        raise SSRFError(f"the host {host!r} has an empty label")
    if len(label) > _MAX_LABEL:
        raise SSRFError(f"the host {host[:_MAX_LABEL]!r}... has a label of more than {_MAX_LABEL} characters")
    if not _LABEL.fullmatch(label):
        raise SSRFError(f"the host {host!r} has characters that no host name has")
    if label.startswith("xn--"):
        _check_punycode(label, host)
    return label


def _encoded_label(label: str, host: str) -> str:
    """A label by IDNA 2008 with the mapping of UTS 46."""
    import idna

    # Full-width digits, circled letters and the like spell one host for a reader and another one for a resolver.
    if any(_has_ascii_twin(char) for char in label):
        raise SSRFError(f"the host {host!r} has characters that stand for other, plain ones")
    try:
        encoded = idna.encode(label, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as exc:  # IDNAError is one
        raise SSRFError(f"the host {host!r} is not a valid international name") from exc
    # Mapping may also delete characters, or turn another script's full stop into a dot.
    if "." in encoded or not encoded.startswith("xn--"):
        raise SSRFError(f"the host {host!r} has characters that stand for other, plain ones")
    return encoded


def _has_ascii_twin(char: str) -> bool:
    return not char.isascii() and any(part.isascii() for part in unicodedata.normalize("NFKC", char))


def _check_punycode(label: str, host: str) -> None:
    import idna

    try:
        canonical = idna.alabel(idna.ulabel(label)).decode("ascii")
    except UnicodeError as exc:
        raise SSRFError(f"the host {host!r} is not a valid international name") from exc
    if canonical != label:
        raise SSRFError(f"the host {host!r} is not a valid international name")
