"""`conductor serve`: the HTTP API and the worker behind it, in one process."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conductor_ai.cli.options import AgentsDir, AsJSON, PluginsDir
from conductor_ai.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from socket import socket

    from conductor_ai.delivery.service import Service
    from conductor_ai.settings import Settings
    from conductor_ai.tools.sandbox import Sandbox

_BACKLOG = 2048
_MOST_GRACE_S = 3600.0

_logger = logging.getLogger(__name__)


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = 8000,
    plugins_dir: PluginsDir = None,
    agents_dir: AgentsDir = None,
    first_key: Annotated[
        bool, typer.Option("--first-key", help="Make a key, and show it, where there is none yet.")
    ] = False,
    grace_s: Annotated[
        float,
        typer.Option(
            "--grace-s", min=0, max=_MOST_GRACE_S, help="How long steps under way may take to end when it is stopped."
        ),
    ] = 10.0,
    as_json: AsJSON = False,
) -> int:
    """Serve the API and drive its sessions. Ctrl-C once stops it; sessions that run go on when it starts again."""
    import asyncio

    _require_server()
    from conductor_ai.observability.logging import configure
    from conductor_ai.observability.redaction import Redactor
    from conductor_ai.settings import Settings

    settings = Settings.load()
    configure(settings.app_env, Redactor(settings.secrets()))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        work = _serve(
            settings, host, port, plugins_dir, agents_dir, first_key=first_key, grace_s=grace_s, as_json=as_json
        )
        runner.run(work)
    return 0


async def _serve(
    settings: Settings,
    host: str,
    port: int,
    plugins_dir: Path | None,
    agents_dir: Path | None,
    *,
    first_key: bool,
    grace_s: float,
    as_json: bool,
) -> None:
    import asyncio

    from conductor_ai.api import create_app
    from conductor_ai.wiring.service import open_service

    async with open_service(settings, plugins_dir=plugins_dir, agents_dir=agents_dir, grace_s=grace_s) as service:
        for plugin in service.conductor.plugins:
            if plugin.error:
                _logger.warning("plugin %s was not loaded: %s", plugin.name, plugin.error)
        if not first_key:
            await _require_a_key_beyond_loopback(service, host)
        with _bound(host, port) as listening:
            key = await _first_key(service) if first_key else None  # last: it is shown only where all else went well
            app = create_app(settings, service=service)
            trying = asyncio.create_task(_try(service.sandbox))
            try:
                await _run(app, listening, _Announcement(_url(host, listening), key, as_json=as_json), grace_s)
            finally:
                trying.cancel()
                await asyncio.gather(trying, return_exceptions=True)


async def _try(sandbox: Sandbox) -> None:
    """Find out where code can run before the first call that needs to know."""
    from conductor_ai.errors import ToolUnavailable

    try:
        backend, found = await sandbox.chosen()
    except ToolUnavailable as exc:
        _logger.warning("code_run is not offered: %s; %s", exc, exc.hint)
    else:
        _logger.info("code_run uses %s, isolation by %s", backend.name, found.level)


async def _run(app: Any, listening: socket, announcement: _Announcement, grace_s: float) -> None:
    """Serve until a signal comes; the second one ends the process at once."""
    import os

    import uvicorn

    from conductor_ai.cli.exit_codes import ExitCode

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                announcement.make()

        def handle_exit(self, sig: int, frame: Any) -> None:
            # Theirs raises the signal once more at the end; stopping as asked is no failure.
            if self.should_exit:
                os._exit(ExitCode.INTERRUPTED)
            self.should_exit = True

    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=max(1, round(grace_s)),
            backlog=_BACKLOG,
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # in force again once the server has stopped
        signal.signal(number, lambda sig, frame: server.handle_exit(sig, frame))
    await server.serve(sockets=[listening])
    if not server.started:
        raise UsageError("the server did not start; what it logged says why")


class _Announcement:
    """What is said once requests are answered: where, and the key, which is shown this once."""

    def __init__(self, url: str, key: str | None, *, as_json: bool) -> None:
        self._url = url
        self._key = key
        self._as_json = as_json

    def make(self) -> None:
        import json

        from conductor_ai.cli.output import say

        _logger.info("listening on %s", self._url)
        docs = f"{self._url}/docs"
        if self._as_json:
            said = {"url": self._url, "docs": docs} | ({} if self._key is None else {"key": self._key})
            say(json.dumps(said))
            return
        say(f"conductor-ai serves at {self._url}")
        say(f"docs: {docs}")
        if self._key is not None:
            say(f"key, shown this once: {self._key}")


async def _first_key(service: Service) -> str | None:
    """A key for the default org with all scopes, where no org has one that is valid."""
    from conductor_ai.cli.output import note
    from conductor_ai.schemas.orgs import ALL_SCOPES, DEFAULT_ORG

    if await _has_key(service):
        note("there is a key already, so none was made: conductor keys list")
        return None
    _, key = await service.keys.create(
        DEFAULT_ORG, scopes=ALL_SCOPES, name="first key", by="conductor serve --first-key"
    )
    return key


async def _require_a_key_beyond_loopback(service: Service, host: str) -> None:
    """Without a key everybody may do everything, so nobody else may reach it. Raises: UsageError."""
    if _is_loopback(host) or await _has_key(service):
        return
    raise UsageError(
        f"refused to listen on {host}: there is no key, so anybody who reaches it could use it",
        hint="make one: conductor keys create --scopes run,read,approve, or start with --first-key",
    )


async def _has_key(service: Service) -> bool:
    from conductor_ai.schemas.ids import utc_now

    now = utc_now()
    for org in await service.store.orgs():
        if any(key.works_at(now) for key in await service.store.keys(org.org_id)):
            return True
    return False


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name, which may mean any address
        return False


def _bound(host: str, port: int) -> socket:
    """Raises: OSError, as where the port is taken; UsageError for a host that is none."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # What it accepts inherits this; asyncio sets it only where the socket says that it is TCP, which these do not.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except (OSError, UnicodeError) as exc:
        if isinstance(exc, OSError) and (exc.errno or 0) > 0:
            raise
        raise UsageError(f"{host} is no address of this machine") from exc  # the numbers of lookups are negative


def _url(host: str, listening: socket) -> str:
    port = listening.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _require_server() -> None:
    """Raises: MissingExtra."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"conductor serve needs {exc.name}", hint="pip install 'conductor-ai[server]'") from exc


def _loop_factory() -> Any:
    """uvloop's, where there is one; None: Python's own."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop
