"""Sites whose terms forbid automated access, and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_LINKEDIN = (
    "LinkedIn's user agreement forbids automated access. Use its official API, have the user export their own data,"
    " or ask the user to paste the text you need"
)
_META = (
    "Meta's terms forbid automated collection. Use the Graph API with a key of the page's owner,"
    " or ask the user to paste the text you need"
)
_X = "X's terms forbid automated access. Use the X API, or ask the user to paste the text you need"
_TIKTOK = "TikTok's terms forbid automated access. Use its official API, or ask the user to paste the text you need"

# A domain, with all its sub-domains, to the reason. A matter of policy, not of safety.
DENIED_HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "linkedin.com": _LINKEDIN,
        "linkedin.cn": _LINKEDIN,
        "licdn.com": _LINKEDIN,
        "lnkd.in": _LINKEDIN,
        "facebook.com": _META,
        "fb.com": _META,
        "fb.me": _META,
        "instagram.com": _META,
        "threads.com": _META,
        "threads.net": _META,
        "twitter.com": _X,
        "x.com": _X,
        "tiktok.com": _TIKTOK,
    }
)
