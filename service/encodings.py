"""Content-Encoding: gzip and deflate, unpacked within a bound."""

from __future__ import annotations

import zlib

from service.errors import BadEncodingError, BodyTooLargeError, UnsupportedEncodingError

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""For zlib: `deflate` on the web is the zlib format (RFC 9110, 8.4.1.2)."""
_LEVEL = 1


def is_packed(encoding: str) -> bool:
    """Of a Content-Encoding header; UnsupportedEncodingError for one that is not known here."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return False
    if name not in _WINDOW:
        raise UnsupportedEncodingError
    return True


def unpacked(body: bytes, encoding: str, limit: int) -> bytes:
    """At most `limit` bytes are ever made: BodyTooLargeError. BadEncodingError for damaged ones."""
    stream = zlib.decompressobj(_WINDOW[encoding.strip().lower()])
    try:
        data = stream.decompress(body, limit + 1)
    except zlib.error:
        raise BadEncodingError from None
    if len(data) > limit:
        raise BodyTooLargeError(limit)
    if not stream.eof or stream.unused_data:
        raise BadEncodingError
    return data


def accepted(header: str) -> str | None:
    """The encoding that an Accept-Encoding header allows and this module knows; None: as it is."""
    for part in header.lower().split(","):
        name, _, weight = part.partition(";")
        if name.strip() in _WINDOW and weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000"):
            return name.strip()
    return None


def packed(data: bytes, encoding: str) -> bytes:
    stream = zlib.compressobj(_LEVEL, wbits=_WINDOW[encoding])
    return stream.compress(data) + stream.flush()
