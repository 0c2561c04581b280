"""Images named by URL: had through the guard, within caps and one deadline, or refused in a line without secrets."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import pytest

from conductor_ai.agents.images import MAX_AT_ONCE, fetched
from conductor_ai.errors import InvalidInput
from conductor_ai.schemas.images import MAX_IMAGE_BYTES, Image
from conductor_ai.schemas.messages import Message, Role
from tests.conftest import fail_after
from tests.schemas.pictures import ALL, png
from tests.sdk.security.open_web import HOSTILE_URLS, open_web
from tests.tools.web.sites import PUBLIC, Answer, Names, Seen, Site, Wires, http, never, redirect, self_signed, serving

SECRET = "canary-7f3a"
PNG = http(body=png(), kind="image/png")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"


def asking_for(*urls: str) -> list[Message]:
    return [Message(Role.USER, "What is this?", images=tuple(Image("", "", url) for url in urls))]


async def had(site: Site, *paths: str, **options: Any) -> tuple[Image, ...]:
    """The images of a site that is granted."""
    async with fail_after(20):
        [message] = await fetched(asking_for(*(site.url + path for path in paths)), [site.grant], **options)
    return message.images


async def refusal(conversation: list[Message], grants: list[str], **options: Any) -> str:
    """Why an image could not be had. Nothing that is printed with the error holds the secret."""
    async with fail_after(20):
        with pytest.raises(InvalidInput) as caught:
            await fetched(conversation, grants, **options)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def refusal_of(answers: Mapping[str, bytes | Answer], path: str = "/", **options: Any) -> str:
    async with serving(answers) as site:
        told = await refusal(asking_for(site.url + path), [site.grant], **options)
    assert told.startswith(f"the image {site.url}{path.partition('?')[0]} cannot be had: ")
    return told.partition(" cannot be had: ")[2]


@pytest.mark.parametrize(("make", "media_type"), ALL.values(), ids=ALL)
async def test_an_image_is_had_whatever_the_server_calls_it(make: Any, media_type: str) -> None:
    async with serving({"/a": http(body=make(), kind="text/plain")}) as site:
        [image] = await had(site, "/a")

    assert image == Image.of_bytes(make())._replace(url=f"{site.url}/a")
    assert image.media_type == media_type


async def test_the_query_is_sent_and_not_kept() -> None:
    path = f"/cat%20one.png?token={SECRET}"
    async with serving({path: PNG}) as site:
        [image] = await had(site, path)

    assert site.paths == [path]
    assert image.url == f"{site.url}/cat%20one.png"


async def test_the_server_learns_what_is_wanted_and_nothing_of_us() -> None:
    async with serving({"/": PNG}) as site:
        await had(site, "/")

    [seen] = site.seen  # and no robots.txt
    assert seen.headers["accept"] == "image/png, image/jpeg, image/webp, image/gif"
    assert set(seen.headers) == {"host", "accept", "accept-encoding", "user-agent"}


async def test_messages_keep_their_order_and_all_that_is_not_fetched() -> None:
    async with serving({f"/{n}": http(body=png(n, n)) for n in range(1, 4)}) as site:
        ready = Image.of_bytes(png(9, 9))
        first, third = (Image("", "", f"{site.url}/{n}") for n in (1, 3))
        given = [
            Message(Role.USER, "a", images=(third, ready, first)),
            Message(Role.ASSISTANT, "b"),
            Message(Role.USER, "c", images=(first,)),
        ]

        async with fail_after(20):
            conversation = await fetched(given, [site.grant])

    def of_site(n: int) -> Image:
        return Image.of_bytes(png(n, n))._replace(url=f"{site.url}/{n}")

    assert conversation == [
        given[0]._replace(images=(of_site(3), ready, of_site(1))),
        given[1],
        given[2]._replace(images=(of_site(1),)),
    ]
    assert sorted(site.paths) == ["/1", "/3"]  # each once
    assert given[0].images[0] == third


async def test_only_a_few_are_asked_for_at_once_however_many_the_hosts() -> None:
    arrived, enough, too_many, go = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        arrived += 1
        if arrived >= MAX_AT_ONCE:
            (enough if arrived == MAX_AT_ONCE else too_many).set()
        await go.wait()
        writer.write(PNG)

    async with serving({"/": hold}) as site, fail_after(20):
        hosts = [f"img{n}.example.com" for n in range(10)]
        names, wires = Names({host: [PUBLIC] for host in hosts}), Wires(site)
        asking = fetched(asking_for(*(f"http://{host}/" for host in hosts)), resolver=names, socket_factory=wires)
        task = asyncio.create_task(asking)
        await enough.wait()
        with pytest.raises(TimeoutError):  # nobody else comes while they wait
            async with asyncio.timeout(0.2):
                await too_many.wait()
        go.set()
        [message] = await task
    assert [image.url for image in message.images] == [f"http://{host}/" for host in hosts]


async def test_a_conversation_without_urls_comes_back_as_it_is() -> None:
    conversation = [Message(Role.USER, "hi", images=(Image.of_bytes(png()),))]
    assert await fetched(conversation) is conversation


def test_no_http_client_is_loaded_where_nothing_is_fetched() -> None:
    program = (
        "import asyncio, sys\n"
        "from conductor_ai.agents.images import fetched\n"
        "from conductor_ai.schemas.messages import Message, Role\n"
        "asyncio.run(fetched([Message(Role.USER, 'hi')]))\n"
        "assert not {'aiohttp', 'pydantic', 'idna'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_a_compressed_answer_is_read() -> None:
    body = gzip.compress(png())
    async with serving({"/": http(body=body, headers={"Content-Encoding": "gzip"})}) as site:
        [image] = await had(site, "/")
    assert image.data == Image.of_bytes(png()).data


@pytest.mark.parametrize("declared", [True, False])
async def test_an_image_as_large_as_models_take_is_had_and_one_byte_more_is_not(declared: bool) -> None:
    def answer(total_bytes: int) -> bytes:
        body = png(total_bytes=total_bytes)
        return http(body=body) if declared else HEAD + b"Connection: close\r\n\r\n" + body

    async with serving({"/": answer(MAX_IMAGE_BYTES)}) as site:
        [image] = await had(site, "/")
    assert len(image.data) == 5 * 2**20
    assert "larger than 3,932,160 bytes" in await refusal_of({"/": answer(MAX_IMAGE_BYTES + 1)})


async def test_a_body_without_end_is_left_at_the_cap() -> None:
    left = asyncio.Event()

    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n" + png())
        try:
            while True:
                writer.write(bytes(2**16))
                await writer.drain()
        except ConnectionError:
            left.set()

    async with serving({"/": endless}) as site:
        assert "larger than" in await refusal(asking_for(site.url), [site.grant])
        async with fail_after(10):
            await left.wait()


async def test_compressed_data_counts_by_what_it_becomes() -> None:
    body = gzip.compress(png() + bytes(50 * 2**20))
    assert "larger than" in await refusal_of({"/": http(body=body, headers={"Content-Encoding": "gzip"})})


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http(body=b"<!doctype html><p>Sign in", kind="text/html; charset=utf-8"), "127.0.0.1 calls it text/html"),
        (http(body=b"%PDF-1.7", kind="application/pdf"), "no PNG, JPEG, GIF or WebP image"),
        (http(body=b"<svg/>", kind="image/svg+xml"), "calls it image/svg+xml"),
        (http(body=b"", kind=""), "calls it nothing"),
        (http(body=b"x", kind=f"text/{SECRET} {SECRET}"), "calls it nothing"),
        (http(body=png()[:20], kind="image/png"), "cut or broken"),
        (http(body=png(9000, 5), kind="image/png"), "9000 x 5 pixels"),
        (http(404, png(), kind="image/png"), "127.0.0.1 answered with status 404"),
        (http(206, png(), kind="image/png"), "answered with status 206"),
        (http(304), "answered with status 304"),
        (HEAD + b"Content-Length: 1000\r\n\r\n" + png(), "broke off before its end"),
        (HEAD + b"Content-Encoding: br\r\n\r\n" + png(), "encoding 'br'"),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n" + png(), "compressed data is broken"),
        (b"HTTP/1.1 200 OK\r\nSet-Cookie: " + SECRET.encode() * 2000 + b"\r\n\r\n", "not proper HTTP"),
        (f"{SECRET} is no HTTP\r\n\r\n".encode(), "not proper HTTP"),
        (b"", "closed the connection before it answered"),
    ],
    ids=range(16),
)
async def test_an_answer_that_is_no_image_is_refused(answer: bytes, problem: str) -> None:
    assert problem in await refusal_of({f"/cat?token={SECRET}": answer}, f"/cat?token={SECRET}")


async def drip(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "stage"), [(never, "waiting for the answer of 127.0.0.1"), (drip, "reading the answer of 127.0.0.1")]
)
async def test_a_slow_server_is_left_at_the_deadline(answer: Answer, stage: str) -> None:
    told = await refusal_of({"/": answer}, timeout_s=0.3)
    assert told == f"it did not come in time ({stage})"


async def test_the_deadline_is_for_all_images_together() -> None:
    """Each alone would come in time; they come a few at a time, and the last ones too late."""

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(PNG)

    async with serving({f"/{n}": slow for n in range(3 * MAX_AT_ONCE)}) as site:
        urls = [f"{site.url}/{n}" for n in range(3 * MAX_AT_ONCE)]
        assert "did not come in time" in await refusal(asking_for(*urls), [site.grant], timeout_s=0.6)


async def test_one_that_fails_ends_the_others() -> None:
    async with serving({"/never": never, "/missing": http(404)}) as site:
        told = await refusal(asking_for(f"{site.url}/never", f"{site.url}/missing"), [site.grant])
    assert told.startswith(f"the image {site.url}/missing cannot be had")


async def test_whoever_leaves_leaves_no_request_behind() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def slow(seen: Seen, writer: asyncio.StreamWriter) -> None:
        reached.set()
        try:
            await drip(seen, writer)
        except ConnectionError:
            left.set()

    async with serving({"/": slow}) as site, fail_after(10):
        task = asyncio.create_task(fetched(asking_for(site.url), [site.grant]))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await left.wait()


async def test_no_socket_is_made_for_a_hostile_url() -> None:
    """The guard's own corpus: addresses in every spelling, local names, user info, other schemes and ports."""
    hostile = [url for urls in HOSTILE_URLS.values() for url in urls if url]
    async with open_web() as web:
        for url in hostile:
            async with fail_after(10):
                with pytest.raises(InvalidInput):
                    await fetched(asking_for(url), [], resolver=web.names, socket_factory=web.make_socket)

        assert len(hostile) > 300
        assert (web.sockets, web.connects) == ([], [])


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.7", "::1", "fd00::1", "::ffff:10.0.0.7"])
async def test_no_socket_is_made_for_a_name_that_leads_inwards(address: str) -> None:
    async with serving({"/": PNG}) as site:
        wires = Wires(site)
        names = Names({"img.example.com": [address]})
        told = await refusal(asking_for("http://img.example.com/"), [], resolver=names, socket_factory=wires)

    assert "refused: img.example.com is at" in told
    assert (wires.made, site.connections) == ([], 0)


async def test_a_public_server_is_asked_at_the_address_that_was_checked() -> None:
    async with serving({"/": PNG}) as site:
        wires, names = Wires(site), Names({"img.example.com": [PUBLIC, "127.0.0.1"]})
        async with fail_after(10):
            [message] = await fetched(asking_for("http://img.example.com/"), [], resolver=names, socket_factory=wires)

    assert message.images[0].url == "http://img.example.com/"
    assert (wires.made, names.asked) == ([(PUBLIC, 80)], ["img.example.com"])


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        (f"http://127.0.0.1/{SECRET}", "refused: 127.0.0.1 is a loopback address"),
        (f"http://inside.example.com/?{SECRET}", "refused: inside.example.com is at 10.0.0.7"),
        (f"http://localhost:8080/?{SECRET}", "refused: localhost is a name of this machine"),
        (f"http://img.example.com:22/?{SECRET}", "refused: port 22 of img.example.com"),
        (f"//cdn.example.com/?{SECRET}", "no plain http or https URL"),
        (f"ftp://me:{SECRET}@example.com/", "no plain http or https URL"),
        (f"http://me:{SECRET}@img.example.com/", "no plain http or https URL"),
        (f"file:///{SECRET}", "no plain http or https URL"),
        (f"http://0x7f000001/?{SECRET}", "no plain http or https URL"),
    ],
    ids=range(9),
)
async def test_a_redirect_inwards_is_not_followed_and_not_told_in_full(location: str, problem: str) -> None:
    async with serving({"/": redirect(location)}) as site:
        wires = Wires(site)
        names = Names({"img.example.com": [PUBLIC], "inside.example.com": ["10.0.0.7"]})
        told = await refusal(asking_for("http://img.example.com/"), [], resolver=names, socket_factory=wires)

    assert problem in told and "redirected" in told
    assert wires.made == [(PUBLIC, 80)]


async def test_a_server_whose_certificate_is_not_trusted_is_refused() -> None:
    async with serving({"/": PNG}, tls=self_signed()) as site:
        names, wires = Names({"shop.example.com": [PUBLIC]}), Wires(site)
        told = await refusal(asking_for("https://shop.example.com/"), [], resolver=names, socket_factory=wires)
    assert "no secure connection to shop.example.com" in told
    assert (wires.made, site.seen) == ([(PUBLIC, 443)], [])


async def test_redirects_are_followed_and_the_url_that_was_named_is_kept() -> None:
    chain = {"/a?x=1": redirect("/b"), "/b": redirect(f"c?token={SECRET}"), f"/c?token={SECRET}": PNG}
    async with serving(chain) as site:
        [image] = await had(site, "/a?x=1")
    assert image.url == f"{site.url}/a"


async def test_redirects_without_end_are_left() -> None:
    location = f"/?token={SECRET}"
    assert await refusal_of({"/": redirect(location), location: redirect(location)}) == "it is redirected too often"


async def test_a_name_without_an_address_is_told() -> None:
    told = await refusal(asking_for(f"http://img.example.com/?{SECRET}"), [], resolver=Names({}))
    assert told.startswith("the image http://img.example.com/ cannot be had: the name img.example.com was not found")


async def test_grants_come_from_the_environment_where_none_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving({"/": PNG}) as site:
        assert "127.0.0.1 is a loopback address" in await refusal(asking_for(site.url), [])
        monkeypatch.setenv("CONDUCTOR_FETCH_GRANTS", site.grant)
        async with fail_after(10):
            [message] = await fetched(asking_for(site.url))
    assert message.images[0].is_fetched


async def test_a_url_of_great_length_is_not_told_in_full() -> None:
    told = await refusal(asking_for(f"http://127.0.0.1/{'x' * 5000}{SECRET}"), [])
    assert len(told) < 400


async def test_the_images_of_a_message_fit_one_request_once_they_are_there() -> None:
    large = http(body=png(total_bytes=MAX_IMAGE_BYTES))
    async with serving({f"/{n}": large for n in range(4)}) as site:
        told = await refusal(asking_for(*(f"{site.url}/{n}" for n in range(4))), [site.grant])
    assert "bytes together" in told
