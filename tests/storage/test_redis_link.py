"""The addresses that `REDIS_URL` may have, and what is said where one is no use."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from conductor_ai.errors import InvalidInput, MissingExtra
from conductor_ai.storage.hot_redis import RedisHotState


async def test_no_password_is_told(redis_url: str, caplog: pytest.LogCaptureFixture, unused_tcp_port: int) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = await RedisHotState.open(redis_url.replace(f":{urlsplit(redis_url).password}@", ":Sesame-9471@"))
    assert await wrong.problem() == "Redis refuses the user name or the password"
    away = await RedisHotState.open(f"redis://somebody:Sesame-9471@127.0.0.1:{unused_tcp_port}/0")
    said = [await away.problem(), repr(wrong), repr(away)]
    for hot in (wrong, away):
        await hot.request_cancel("s1")
        await hot.put_snapshot("s1", {"n": 1})
        assert await hot.take("org1", limit=1, window_s=60) is None
        await hot.close()
    for url in ("redis://:Sesame-9471#x@localhost:1", "redis://:Sesame-9471@localhost:port", "http://:Sesame-9471@h"):
        with pytest.raises(InvalidInput) as caught:
            await RedisHotState.open(f"{url}/?Sesame-9471=1")
        said.append(f"{caught.value} {caught.value.hint} {caught.value.__cause__}")
    assert "refuses" in caplog.text
    assert "Sesame" not in caplog.text + str(said)


async def pass_on(redis_url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, however it came, on to Redis."""
    parts = urlsplit(redis_url)
    behind, to_behind = await asyncio.open_connection(parts.hostname, parts.port)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while chunk := await source.read(65_536):
            target.write(chunk)
        target.close()

    await asyncio.gather(copy(reader, to_behind), copy(behind, writer))


async def test_a_redis_behind_a_unix_socket(redis_url: str, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with await asyncio.start_unix_server(partial(pass_on, redis_url), path):
        hot = await RedisHotState.open(f"unix://:{urlsplit(redis_url).password}@{path}?db=0")
        await hot.put_snapshot("s1", {"n": 1})
        assert (await hot.problem(), await hot.snapshot("s1")) == (None, {"n": 1})
        await hot.close()


async def test_a_redis_that_speaks_tls_only_to_who_trusts_it(redis_url: str, tmp_path: Path) -> None:
    certificate, context = tmp_path / "redis.pem", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.write_bytes(self_signed("localhost"))
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(partial(pass_on, redis_url), "127.0.0.1", ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"rediss://:{urlsplit(redis_url).password}@localhost:{port}/0"
        trusting = await RedisHotState.open(f"{url}?ssl_ca_certs={certificate}")
        await trusting.put_snapshot("s1", {"n": 1})
        assert (await trusting.problem(), await trusting.snapshot("s1")) == (None, {"n": 1})
        await trusting.close()
        suspicious = await RedisHotState.open(url)
        assert await suspicious.problem() == "Redis cannot be reached: TLS fails, or its certificate is not trusted"
        await suspicious.close()


def self_signed(name: str) -> bytes:
    """A key and a certificate for it, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return secret + made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


async def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("redis_link", "redis_relay"):
        monkeypatch.delitem(sys.modules, f"conductor_ai.storage.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra) as caught:
        await RedisHotState.open("redis://localhost")
    assert caught.value.hint == 'pip install "conductor-ai[redis]"'
