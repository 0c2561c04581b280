"""Image files made by hand: their headers say what the test wants, whatever stands behind them."""

from __future__ import annotations

import struct
import zlib


def png(width: int = 2, height: int = 3, *, total_bytes: int = 0) -> bytes:
    """A grey picture, whole for small sizes; a chunk without meaning fills it up to `total_bytes`."""
    rows = b"".join(b"\x00" + bytes(width) for _ in range(min(height, 16)))
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    tail = _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    if missing := max(0, total_bytes - len(head) - len(tail)):
        head += _chunk(b"prVt", bytes(missing - 12))
    return head + tail


def jpeg(width: int = 2, height: int = 3, *, frame: int = 0xC0) -> bytes:
    """Up to the scan. A thumbnail of another size hides in the metadata, and a fill byte stands before the frame."""
    thumbnail = b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x63\x00\x63\x01\x01\x11\x00"
    return (
        b"\xff\xd8"
        + _segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
        + _segment(0xE1, b"Exif\x00\x00" + thumbnail)
        + _segment(0xC4, bytes(19))
        + b"\xff\x01"
        + b"\xff"
        + _segment(frame, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")
        + _segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + b"\x00\xff\xd9"
    )


def gif(width: int = 2, height: int = 3) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def webp_lossy(width: int = 2, height: int = 3) -> bytes:
    return _riff(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width | 0x4000, height | 0x8000) + bytes(6))


def webp_lossless(width: int = 2, height: int = 3) -> bytes:
    return _riff(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14 | 1 << 28) + bytes(6))


def webp_extended(width: int = 2, height: int = 3) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return _riff(b"VP8X", b"\x10\x00\x00\x00" + size)


ALL = {
    "png": (png, "image/png"),
    "jpeg": (jpeg, "image/jpeg"),
    "gif": (gif, "image/gif"),
    "webp lossy": (webp_lossy, "image/webp"),
    "webp lossless": (webp_lossless, "image/webp"),
    "webp extended": (webp_extended, "image/webp"),
}


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


def _riff(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
