"""Log lines: to stderr, readable in development, JSON in production, with session and org, without secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

from conductor_ai.observability.redaction import Redactor

if TYPE_CHECKING:
    from structlog.typing import Processor

# structlog is imported where it is needed: a command that logs nothing does not wait for it.

# A library keeps silent until its host says where lines go; without this, Python prints warnings to stderr.
logging.getLogger("conductor_ai").addHandler(logging.NullHandler())

_session: ContextVar[tuple[str, str] | None] = ContextVar("conductor_log_session", default=None)


@contextmanager
def bind_session(session_id: str, org_id: str) -> Iterator[None]:
    """Log lines written within, and in tasks started within, name the session and its org."""
    token = _session.set((session_id, org_id))
    try:
        yield
    finally:
        _session.reset(token)


def configure(app_env: str, redactor: Redactor, level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send all log lines of the process, other libraries' too, to `stream` (standard error if left out).

    Lines are JSON where `app_env` is `production`. Calling it again replaces the former settings.
    """
    import structlog

    added: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_session,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    _take_over_structlog(added, level)
    handler = _Handler(sys.stderr if stream is None else stream)
    rendering = _json_rendering(redactor) if app_env == "production" else _console_rendering(redactor, handler.stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=added,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    for former in [former for former in root.handlers if isinstance(former, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level)


def clean_last_resort(redactor: Redactor) -> None:
    """Where nobody has said where log lines go, Python prints warnings as they are to standard error: from now on
    without secrets. For a process that is ours."""
    handler = _Handler(sys.stderr)
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Cleaned(redactor))
    logging.lastResort = handler


class _Cleaned(logging.Formatter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.clean_log(super().format(record))


def _take_over_structlog(added: list[Processor], level: str) -> None:
    """We log through the standard library; a plugin may use structlog, which left alone prints to standard output."""
    import structlog

    structlog.configure(
        processors=[
            *added,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be found again by the next `configure`."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name is the library's
        """Say that a line could not be made. Python's own way prints its arguments, and the secrets in them."""
        error = sys.exc_info()[1]
        where = f"{record.pathname}:{record.lineno}"
        said = ("a log line of %s could not be written: %s", (where, type(error).__name__))
        substitute = logging.LogRecord(record.name, logging.ERROR, record.pathname, record.lineno, *said, None)
        try:
            self.stream.write(self.format(substitute) + self.terminator)
            self.flush()
        except (OSError, ValueError):
            return  # the stream is gone or closed, and with it whoever could be told


def _add_session(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    bound = _session.get()
    if bound is not None:
        event.setdefault("session_id", bound[0])
        event.setdefault("org_id", bound[1])
    return event


def _json_rendering(redactor: Redactor) -> list[Processor]:
    import structlog

    from conductor_ai.observability.values import record_json

    def line(logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        return redactor.clean_log_json(record_json(dict(event)))

    return [structlog.processors.format_exc_info, line]


def _console_rendering(redactor: Redactor, stream: TextIO) -> list[Processor]:
    import structlog

    # Local variables of a traceback are never shown: they hold what nobody registered as a secret.
    console = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)

    def cleaned(logger: object, method: str, line: Any) -> str:
        return redactor.clean_log(str(line))

    return [console, cleaned]
