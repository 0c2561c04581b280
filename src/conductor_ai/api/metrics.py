"""Figures for Prometheus, in a registry of the app's own. No label tells one org from another."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "conductor_http_requests",
            "Requests answered, by method, route and status.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "conductor_http_request_seconds",
            "Time until a request was answered, by route; streams are left out.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self.open_streams = Gauge(
            "conductor_event_streams", "Event streams that are open now.", registry=self._registry
        )
        self._up = Gauge("conductor_up", "1 where the part works, else 0.", ("part",), registry=self._registry)
        # Looking a child up by its labels costs more than counting; there are few of them.
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """`seconds` None: a stream."""
        counter = self._counters.get((method, route, status))
        if counter is None:
            counter = self._counters[method, route, status] = self._requests.labels(method, route, str(status))
        counter.inc()
        if seconds is not None:
            timer = self._timers.get(route)
            if timer is None:
                timer = self._timers[route] = self._seconds.labels(route)
            timer.observe(seconds)

    def text(self, works: dict[str, bool]) -> bytes:
        """`works` says of each part whether it does."""
        for part, up in works.items():
            self._up.labels(part).set(up)
        return generate_latest(self._registry)
