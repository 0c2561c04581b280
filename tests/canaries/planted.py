"""Canaries: secrets that exist only to be looked for, and the search for them in whatever a process leaves behind."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, quote_plus

_PART = 12
"""So many characters of a canary in a row are a part of it that was left standing."""


@dataclass(frozen=True)
class Canary:
    """`value` has what JSON, URLs and base64 write differently, and is like nothing else."""

    name: str
    value: str

    @cached_property
    def traces(self) -> tuple[tuple[str, bytes], ...]:
        """How it may show, by name. Worked out here, apart from the code that hides it."""
        value = self.value
        once = json.dumps(value)[1:-1]
        twice = json.dumps(once)[1:-1]
        found = {
            "value": value,
            "json": once,
            "json in json": twice,
            "json in json in json": (thrice := json.dumps(twice)[1:-1]),
            "json, four times": json.dumps(thrice)[1:-1],
            "json of php": once.replace("/", "\\/"),
            "repr": repr(value)[1:-1],
            "percent": quote(value, safe=""),
            "percent, small": quote(value, safe="").replace("%2F", "%2f").replace("%22", "%22"),
            "path": quote(value),
            "form": quote_plus(value),
        }
        for before in range(3):
            # Whole groups of three bytes of the value, whatever stands before and behind them.
            data = b"." * before + value.encode()
            text = base64.b64encode(data[: len(data) // 3 * 3]).decode()[4:]
            found[f"base64 {before}"] = text
            found[f"base64 of URLs {before}"] = text.replace("+", "-").replace("/", "_")
            found[f"base64, percent {before}"] = quote(text, safe="")
        parts = {f"part {at}": value[at : at + _PART] for at in range(0, len(value) - _PART + 1, 4)}
        return tuple((form, text.encode()) for form, text in (found | parts).items())


def _canary(name: str) -> Canary:
    """A value made of its name, the same in every run."""
    chance = random.Random(name)
    words = ("".join(chance.choices(string.ascii_letters + string.digits, k=7)) for _ in range(7))
    return Canary(name, '{}-{}"{}/{}+{}\\{}?{}~'.format(*words))


ANTHROPIC = _canary("ANTHROPIC_API_KEY")
OPENROUTER = _canary("OPENROUTER_API_KEY")
GOOGLE = _canary("GOOGLE_API_KEY")
LOCAL = _canary("LOCAL_LLM_API_KEY")
REDIS = _canary("REDIS_URL")
SUPABASE = _canary("SUPABASE_SERVICE_KEY")
REGISTERED = (ANTHROPIC, OPENROUTER, GOOGLE, LOCAL, REDIS, SUPABASE)
"""What the settings name as secret: these show nowhere, in no form."""


def _word(name: str) -> str:
    return "".join(random.Random(name).choices(string.ascii_letters, k=22)) + "7"


PASSWORD = Canary("password of a URL", _word("password of a URL"))
TOKEN = Canary("?token=", _word("?token="))
API_KEY = Canary("&api_key=", _word("&api_key="))
SIGNATURE = Canary("&X-Amz-Signature=", _word("&X-Amz-Signature="))
COOKIE = Canary("Cookie", _word("Cookie"))
BASIC = Canary("Authorization: Basic", _word("Authorization: Basic"))
IN_PLACE = (PASSWORD, TOKEN, API_KEY, SIGNATURE, COOKIE, BASIC)
"""What nobody registered, known for secret by where it stands: not in errors of providers, log lines and audit rows."""

PATH = "pAtH5kEy0fAgAtEwAy"
"""A part of base URLs. It is no secret to `doctor`, which shows settings; nothing of ours says it elsewhere."""

ALL = (*REGISTERED, *IN_PLACE, Canary("path of a base URL", PATH))

URL = (
    f"https://user:{PASSWORD.value}@db.example/x?token={TOKEN.value}&page=2"
    f"&api_key={API_KEY.value}&X-Amz-Signature={SIGNATURE.value}#end"
)
REDIS_URL = f"redis://:{quote(REDIS.value, safe='')}@127.0.0.1:6379/0"


def environment() -> dict[str, str]:
    """The variables of a process with every canary that it may hold."""
    keys = {one.name: one.value for one in (ANTHROPIC, OPENROUTER, GOOGLE, LOCAL, SUPABASE)}
    return {**keys, "REDIS_URL": REDIS_URL}


def sayings(key: str) -> list[str]:
    """What a careless service, page or model says: a key in every form, and secrets of its own where they belong."""
    basic = base64.b64encode(f"user:{BASIC.value}".encode()).decode()
    return [
        f"invalid key {key}",
        f"Authorization: Bearer {key}",
        f"got https://user:{PASSWORD.value}@db.example/x",
        f"GET https://h.example/v1?token={TOKEN.value}&page=2",
        f"Cookie: sid={COOKIE.value}; theme=dark",
        f"Proxy-Authorization: Basic {basic}",
        f'{{"x-api-key": {json.dumps(key)}}}',
        f"/v1beta/models?alt=sse&api_key={API_KEY.value}",
        f"Basic {base64.b64encode(f'user:{key}'.encode()).decode()}",
        f"next=https%3A%2F%2Fh.example%2F%3Ftoken%3D{TOKEN.value}%26page%3D2",
        quote(key, safe=""),
        f"redis://:{PASSWORD.value}@cache:6379/0",
        json.dumps(json.dumps(key)),
        f"https://bucket.example/x?X-Amz-Date=1&X-Amz-Signature={SIGNATURE.value}",
        f"({REDIS.value}) [{SUPABASE.value}]",
    ]


def trace_of(data: bytes | str, canaries: Iterable[Canary] = ALL) -> list[str]:
    """Which canaries show in `data`, and in which form; of several forms the first."""
    given = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    shown = []
    for canary in canaries:
        form = next((form for form, trace in canary.traces if trace in given), None)
        if form is not None:
            shown.append(f"{canary.name} ({form})")
    return shown


class Sweep:
    """Everything that was left behind, each piece under the name of where it was found."""

    def __init__(self) -> None:
        self._pieces: list[tuple[str, bytes | str]] = []

    def add(self, where: str, data: bytes | str) -> None:
        self._pieces.append((where, data))

    def add_folder(self, folder: Path) -> None:
        """The name and the bytes of every file."""
        for file in sorted(folder.rglob("*")):
            self.add("a file's name", str(file.relative_to(folder)))
            if file.is_file():
                self.add(file.name, file.read_bytes())

    @property
    def size(self) -> int:
        return sum(len(data) for _, data in self._pieces)

    def traces(self, canaries: Iterable[Canary] = ALL) -> list[str]:
        """One line for each canary in each place; empty where there is none."""
        looked_for = tuple(canaries)
        return sorted({f"{where}: {one}" for where, data in self._pieces for one in trace_of(data, looked_for)})
