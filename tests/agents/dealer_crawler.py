"""A scripted model that reads a site as a crawler does: it knows nothing but what web_fetch replied."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from conductor_ai.providers.scripted import Line, Moment, Reply
from conductor_ai.schemas import json_text

AT_ONCE = 4

_PHONE = re.compile(r"(?:\+?1[-. ])?\(?(\d{3})\)?[-.\s](\d{3})[-. ](\d{4})")
_EMAIL = re.compile(r"[\w.]+@[\w.-]+\w")
_PLACE = re.compile(r"(?P<city>[^|]+), (?P<state>[A-Z]{2}) (?P<zip>\d{5})")
_JSON_BLOCK = re.compile(r"^```json\n(.*?)\n```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\([^)\s]*\)")
_ESCAPED = re.compile(r"\\([^\w\s])")


class DealerCrawler:
    """Begins with the URL in the task, follows links of the same site, reads on what came in part, and answers with the
    dealers as JSON. `refused` has what web_fetch would not fetch, with its words."""

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._todo: deque[dict[str, Any]] = deque()
        self._known: set[str] = set()
        self._parts: dict[str, str] = {}
        self._dealers: dict[str, dict[str, Any]] = {}

    def __call__(self, moment: Moment) -> Line:
        if moment.turn == 0:
            found = re.search(r"https?://\S+", moment.prompt)
            assert found is not None, "the task names no URL"
            self._queue(found.group())
        for reply in moment.replies:
            self._read(reply)
        if not self._todo:
            return Line(json.dumps({"dealers": list(self._dealers.values())}, ensure_ascii=False))
        calls = [self._todo.popleft() for _ in range(min(AT_ONCE, len(self._todo)))]
        return Line(calls=tuple(("web_fetch", call) for call in calls))

    def _queue(self, url: str) -> None:
        if url not in self._known:
            self._known.add(url)
            self._todo.append({"url": url})

    def _read(self, reply: Reply) -> None:
        asked = reply.arguments["url"]
        if reply.is_error:
            self.refused[asked] = reply.content
            return
        page = reply.data
        self._parts[asked] = self._parts.get(asked, "") + page["content"]
        if page["next_offset"] is not None:
            self._todo.appendleft({"url": asked, "offset": page["next_offset"]})
            return
        text = self._parts.pop(asked)
        found = self._in_data(text) if "json" in page["content_type"] else _in_markdown(text)
        for dealer in found:
            self._dealers[dealer["phone"]] = dealer
        for link in page["links"]:
            if urlsplit(link["url"]).netloc == urlsplit(page["url"]).netloc:
                self._queue(link["url"])

    def _in_data(self, text: str) -> Iterator[dict[str, Any]]:
        data = json_text.loads(text)
        if data["next"] is not None:
            self._queue(data["next"])
        for entry in data["dealers"]:
            yield {**entry, "phone": _phone(entry["phone"]), "cars_in_stock": int(entry["cars_in_stock"])}


def _in_markdown(text: str) -> Iterator[dict[str, Any]]:
    for block in _JSON_BLOCK.findall(text):
        yield from _in_json_ld(json_text.loads(block))
    lines = [_plain(line) for line in _JSON_BLOCK.sub("", text).splitlines()]
    lines = [line for line in lines if line]
    yield from _in_rows([line for line in lines if line.startswith("|")])
    yield from _in_cards([line for line in lines if not line.startswith("|")])


def _in_json_ld(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, list):
        for entry in data:
            yield from _in_json_ld(entry)
    elif "@graph" in data:
        yield from _in_json_ld(data["@graph"])
    elif data["@type"] == "AutoDealer":
        address = data["address"]
        yield {
            "name": data["name"],
            "street": address["streetAddress"],
            "city": address["addressLocality"],
            "state": address["addressRegion"],
            "zip": address["postalCode"],
            "phone": _phone(data["telephone"]),
            "email": data["email"].removeprefix("mailto:"),
            "hours": data["openingHours"],
            "brands": [brand["name"] for brand in data["brand"]],
            "cars_in_stock": data["makesOffer"]["offerCount"],
        }


def _in_rows(rows: list[str]) -> Iterator[dict[str, Any]]:
    heads: list[str] = []
    for row in rows:
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        if cells[0] == "Dealer":
            heads = cells
        elif not set("".join(cells)) <= set("-: "):
            yield _of_row(dict(zip(heads, cells, strict=True)))


def _of_row(row: dict[str, str]) -> dict[str, Any]:
    place = _PLACE.fullmatch(row["City"])
    assert place is not None, row
    return {
        "name": row["Dealer"],
        "street": row["Street"],
        **place.groupdict(),
        "phone": _phone(row["Phone"]),
        "email": row["E-mail"],
        "hours": row["Open"].split(", "),
        "brands": row["Brands"].split(", "),
        "cars_in_stock": int(row["In stock"]),
    }


def _in_cards(lines: list[str]) -> Iterator[dict[str, Any]]:
    """A card has its name and street above the line of the place, and the rest below."""
    places = [at for at, line in enumerate(lines) if _PLACE.fullmatch(line)]
    for at, following in pairwise([*places, len(lines) + 2]):
        place = _PLACE.fullmatch(lines[at])
        assert place is not None
        below = "\n".join(lines[at + 1 : following - 2])
        yield {
            "name": lines[at - 2],
            "street": lines[at - 1],
            **place.groupdict(),
            "phone": _phone(below),
            "email": _first(_EMAIL, below),
            "hours": _first(re.compile(r"(?<=^Open ).*", re.MULTILINE), below).split(", "),
            "brands": _first(re.compile(r"(?<=^Brands: ).*", re.MULTILINE), below).split(", "),
            "cars_in_stock": int(_first(re.compile(r"\d+(?= cars in stock)"), below)),
        }


def _phone(text: str) -> str:
    found = _PHONE.search(text)
    assert found is not None, text
    return "+1" + "".join(found.groups())


def _first(pattern: re.Pattern[str], text: str) -> str:
    """What a page did not say is an empty text, so that the comparison with the truth shows it."""
    found = pattern.search(text)
    return found.group() if found else ""


def _plain(line: str) -> str:
    """A line of Markdown as it reads."""
    return _ESCAPED.sub(r"\1", _LINK.sub(r"\1", line).replace("**", "")).replace("\N{NO-BREAK SPACE}", " ").strip()
