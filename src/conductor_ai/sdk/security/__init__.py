"""Safety for tools: the guard of the open web, timeouts, approvals.

The names load on first use: importing this package brings in no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conductor_ai.errors import ApprovalRefused, ApprovalRequired, SSRFError
    from conductor_ai.sdk.security.approval import ApprovalRequest, bind_approver, require_approval
    from conductor_ai.sdk.security.grants import parse_grants
    from conductor_ai.sdk.security.guarded_http import guarded_connector, guarded_session
    from conductor_ai.sdk.security.lookups import LookupFailed
    from conductor_ai.sdk.security.ssrf import CheckedURL, SSRFChecker
    from conductor_ai.sdk.security.timeouts import with_timeout
    from conductor_ai.sdk.security.urls import WebURL

__all__ = [
    "ApprovalRefused",
    "ApprovalRequest",
    "ApprovalRequired",
    "CheckedURL",
    "LookupFailed",
    "SSRFChecker",
    "SSRFError",
    "WebURL",
    "bind_approver",
    "guarded_connector",
    "guarded_session",
    "parse_grants",
    "require_approval",
    "with_timeout",
]

_HOMES = {
    "ApprovalRefused": "conductor_ai.errors",
    "ApprovalRequest": "conductor_ai.sdk.security.approval",
    "ApprovalRequired": "conductor_ai.errors",
    "CheckedURL": "conductor_ai.sdk.security.ssrf",
    "LookupFailed": "conductor_ai.sdk.security.lookups",
    "SSRFChecker": "conductor_ai.sdk.security.ssrf",
    "SSRFError": "conductor_ai.errors",
    "WebURL": "conductor_ai.sdk.security.urls",
    "bind_approver": "conductor_ai.sdk.security.approval",
    "guarded_connector": "conductor_ai.sdk.security.guarded_http",
    "guarded_session": "conductor_ai.sdk.security.guarded_http",
    "parse_grants": "conductor_ai.sdk.security.grants",
    "require_approval": "conductor_ai.sdk.security.approval",
    "with_timeout": "conductor_ai.sdk.security.timeouts",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
