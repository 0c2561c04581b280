"""Pages that were read, kept in memory so that reading on does not fetch again."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from dataclasses import dataclass

from conductor_ai.tools.web.page_model import Link

MAX_PAGES = 128
MAX_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Reading:
    """A page as a model reads it. `cut`: its end is missing, because it was larger than the cap."""

    url: str
    status: int
    content_type: str
    title: str
    content: str
    links: tuple[Link, ...] = ()
    cut: bool = False

    @property
    def memory_bytes(self) -> int:
        links = sum(sys.getsizeof(link.text) + sys.getsizeof(link.url) + 100 for link in self.links)
        return sys.getsizeof(self.content) + links + 1000


@dataclass(frozen=True, slots=True)
class PageKey:
    """Whose page it is, and what was asked for. Two sessions never share one."""

    org_id: str
    session_id: str
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class KeptPages:
    """The pages read last, bounded in number and memory; the one used longest ago goes first."""

    def __init__(self, *, max_pages: int = MAX_PAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_pages = max_pages
        self._max_bytes = max_bytes
        self._pages: OrderedDict[PageKey, Reading] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: PageKey) -> Reading | None:
        with self._lock:
            if key in self._pages:
                self._pages.move_to_end(key)
            return self._pages.get(key)

    def keep(self, key: PageKey, page: Reading) -> None:
        with self._lock:
            self._drop(key)
            self._pages[key] = page
            self._bytes += page.memory_bytes
            while len(self._pages) > self._max_pages or self._bytes > self._max_bytes:
                self._drop(next(iter(self._pages)))

    def _drop(self, key: PageKey) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._bytes -= page.memory_bytes
