"""The checker: what it lets through, what it refuses and why, what a grant lifts, how names are looked up."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
from aiohttp.abc import ResolveResult

from conductor_ai.errors import ConductorError, InvalidInput, SSRFError
from conductor_ai.sdk import security
from conductor_ai.sdk.security import LookupFailed, SSRFChecker
from tests.conftest import fail_after
from tests.sdk.security.open_web import ADDRESS, ADDRESS_6, GOOD_URLS, HOSTILE_URLS, Names

_HOSTILE = [url for urls in HOSTILE_URLS.values() for url in urls]


async def test_the_snippet_of_the_plan() -> None:
    checker = SSRFChecker(Names())

    await checker.check_url("https://example.com")
    for url in ("http://localhost:22", "http://169.254.169.254", "http://[fd00:ec2::254]/", "http://10.1.2.3"):
        with pytest.raises(SSRFError, match=r"^refused: "):
            await checker.check_url(url)


@pytest.mark.parametrize("url", _HOSTILE)
async def test_a_hostile_url_is_refused_with_a_reason(url: str) -> None:
    names = Names()

    with pytest.raises(SSRFError, match=r"^refused: .{10}"):
        await SSRFChecker(names).check_url(url)
    assert len(names.lookups) == (url in HOSTILE_URLS["names with bad addresses"])


@pytest.mark.parametrize("url", GOOD_URLS)
async def test_a_good_url_is_let_through_with_one_lookup_of_its_name(url: str) -> None:
    names = Names()

    checked = await SSRFChecker(names).check_url(url)

    if checked.addresses == (checked.url.host,):
        assert names.lookups == []
    else:
        assert (checked.addresses, names.lookups) == ((ADDRESS,), [checked.url.host])


async def test_answers_keep_their_order_lose_duplicates_and_carry_the_port_that_was_asked_for() -> None:
    class OtherPort(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [{**answer, "port": 22} for answer in await super().resolve(host, port, family)]

    long_form = "2606:2800:021f:cb07:6820:80da:af6b:8b2c"
    names = OtherPort({"example.org": [[ADDRESS_6, ADDRESS, long_form, ADDRESS]]})

    answers = await SSRFChecker(names).resolve("Example.ORG.", 80)

    assert [(answer["host"], answer["port"]) for answer in answers] == [(ADDRESS_6, 80), (ADDRESS, 80)]
    assert [answer["family"] for answer in answers] == [socket.AF_INET6, socket.AF_INET]


async def test_a_refusal_says_what_to_do_instead() -> None:
    checker = SSRFChecker(Names())

    with pytest.raises(SSRFError, match=r"private\.example\.org is at 192\.168\.7\.7, a private address \(RFC 1918\)"):
        await checker.check_url("http://private.example.org/")
    with pytest.raises(SSRFError, match=r"linkedin\.com is not to be fetched: .*official API.*export.*ask the user"):
        checker.parse_url("https://linkedin.com/in/someone")
    with pytest.raises(SSRFError, match=r"port 6379 of example\.org is not one of 80, 443, 8080, 8443"):
        checker.parse_url("http://example.org:6379/")


async def test_denied_hosts_are_the_callers_choice() -> None:
    checker = SSRFChecker(Names(), denied_hosts={"example.org": "ask for the export"})

    await checker.check_url("https://linkedin.com/")
    with pytest.raises(SSRFError, match="ask for the export"):
        await checker.check_url("https://www.example.org/")


@pytest.mark.parametrize(
    ("grant", "granted", "refused"),
    [
        ("127.0.0.1:9000", ["http://127.0.0.1:9000/x"], ["http://127.0.0.1:9001/", "http://127.0.0.1/"]),
        (
            "127.0.0.1:8080",
            [],
            ["http://loopback.example.org:8080/", "http://[::ffff:127.0.0.1]:8080/", "http://127.0.0.2:8080/"],
        ),
        ("[::1]:9000", ["http://[0:0::1]:9000/", "https://[::1]:9000/"], ["http://[::1]/", "http://[::]:9000/"]),
        (
            "localhost:9000",
            ["http://LOCALHOST.:9000/"],
            ["http://127.0.0.1:9000/", "http://a.localhost:9000/", "http://localhost/"],
        ),
        (
            "private.example.org:9000",
            ["http://private.example.org:9000/"],
            ["http://private.example.org/", "http://192.168.7.7:9000/"],
        ),
        ("linkedin.com:443", ["https://linkedin.com/"], ["https://www.linkedin.com/", "http://linkedin.com/"]),
        ("example.org:22", ["http://example.org:22/"], [f"http://{ADDRESS}:22/", "http://a.example.org:22/"]),
        (
            "169.254.169.254:80",
            ["http://169.254.169.254/"],
            ["http://metadata.example.org/", "http://0xa9fea9fe/", "http://metadata/"],
        ),
    ],
)
async def test_a_grant_is_for_one_pair_of_host_and_port(grant: str, granted: list[str], refused: list[str]) -> None:
    checker = SSRFChecker(Names({"localhost": [["127.0.0.1", "::1"]]}), grants=[grant])

    for url in granted:
        await checker.check_url(url)
    for url in refused:
        with pytest.raises(SSRFError):
            await checker.check_url(url)


@pytest.mark.parametrize(
    "url", ["ftp://localhost:9000/", "http://u@localhost:9000/", "http://localhost:9000/\\", "//localhost:9000/"]
)
async def test_a_grant_does_not_lift_the_rules_of_syntax(url: str) -> None:
    with pytest.raises(SSRFError):
        await SSRFChecker(Names(), grants=["localhost:9000"]).check_url(url)


async def test_a_granted_name_must_still_lead_to_an_address() -> None:
    names = Names({"wiki.corp": [["internal.corp"]]})

    with pytest.raises(SSRFError, match=r"leads to 'internal\.corp', which is not an address"):
        await SSRFChecker(names, grants=["wiki.corp:80"]).check_url("http://wiki.corp/")


def test_a_grant_without_a_port_is_an_error_at_once() -> None:
    with pytest.raises(InvalidInput, match="'localhost' grants nothing: it has no port"):
        SSRFChecker(grants=["localhost"])


async def test_a_name_without_address_is_a_failure_and_no_refusal() -> None:
    class Unknown(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(LookupFailed, match=r"unknown\.example\.org could not be looked up: .*not known") as caught:
        await SSRFChecker(Unknown()).check_url("http://unknown.example.org/")
    assert caught.value.retryable
    assert issubclass(LookupFailed, ConductorError) and issubclass(LookupFailed, OSError)
    with pytest.raises(LookupFailed, match="has no address"):
        await SSRFChecker(Names({"example.org": [[]]})).check_url("http://example.org/")


async def test_the_system_looks_names_up_by_default() -> None:
    checked = await SSRFChecker(grants=["localhost:9000"]).check_url("http://localhost:9000/")

    assert set(checked.addresses) <= {"127.0.0.1", "::1"} and checked.addresses
    with pytest.raises(LookupFailed):
        await SSRFChecker().check_url("http://name-that-is-nowhere.invalid/")


async def test_a_stalled_name_server_holds_up_neither_the_loop_nor_its_executor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    released, begun = threading.Event(), threading.Semaphore(0)

    def stalled(host: str, *_: object, **__: object) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        begun.release()
        released.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ADDRESS, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", stalled)
    checker = SSRFChecker()
    checks = [asyncio.create_task(checker.check_url(f"http://n{number}.example.org/")) for number in range(100)]
    async with fail_after(30):
        for _ in range(16):
            assert await asyncio.to_thread(begun.acquire, timeout=30)
        await checker.check_url(f"http://{ADDRESS}/")
        assert await asyncio.to_thread(lambda: "done") == "done"
        assert not any(check.done() for check in checks)
        assert sum(thread.name == "conductor-lookup" for thread in threading.enumerate()) == 16
        checks[99].cancel()
        await asyncio.wait([checks[99]])
        released.set()
        ends = await asyncio.gather(*checks, return_exceptions=True)

    assert [type(end).__name__ for end in ends] == ["CheckedURL"] * 99 + ["CancelledError"]
    # At most 16 lookups ran at a time, and the one that was given up while it waited never began.
    assert sum(1 for _ in iter(lambda: begun.acquire(blocking=False), False)) == 99 - 16


def test_a_stalled_lookup_does_not_keep_the_process_alive() -> None:
    program = """
import asyncio, socket, threading
from conductor_ai.sdk.security import SSRFChecker
begun = threading.Event()
socket.getaddrinfo = lambda *_, **__: (begun.set(), threading.Event().wait())
async def main():
    check = asyncio.create_task(SSRFChecker().check_url("http://example.org/"))
    await asyncio.to_thread(begun.wait)
asyncio.run(main())
print("over")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert (ended.stdout, ended.stderr) == ("over\n", "")


def test_the_package_loads_no_http_client_before_one_is_asked_for() -> None:
    program = """
import sys
import conductor_ai.sdk.security as security
from conductor_ai.sdk.security import SSRFChecker, SSRFError, require_approval, with_timeout
SSRFChecker().parse_url("http://example.org/")
assert not {"aiohttp", "idna", "yarl"} & set(sys.modules)
security.guarded_session
assert "aiohttp" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_public_name_is_there_and_an_unknown_one_is_an_attribute_error() -> None:
    assert all(getattr(security, name) for name in security.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        security.Nonsense  # noqa: B018


async def test_grants_come_from_the_environment_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_FETCH_GRANTS", "127.0.0.1:9000, wiki.corp:80")

    assert (await SSRFChecker().check_url("http://127.0.0.1:9000/")).addresses == ("127.0.0.1",)
    with pytest.raises(SSRFError):
        await SSRFChecker().check_url("http://127.0.0.1:9001/")
    with pytest.raises(SSRFError):
        await SSRFChecker(grants=()).check_url("http://127.0.0.1:9000/")
    monkeypatch.setenv("CONDUCTOR_FETCH_GRANTS", "127.0.0.1")
    with pytest.raises(InvalidInput, match="CONDUCTOR_FETCH_GRANTS"):
        SSRFChecker()
