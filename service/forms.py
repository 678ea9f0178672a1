"""Photos out of a multipart form, in memory: photos touch no disk, and the root may be read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadMultipartError, NoImageError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FIELD = "image"
MAX_FIELDS = 8
MAX_FIELD_BYTES = 16 * 1024
"""For fields that are no file. None is read, but forms with a few of them should work."""


class PhotoForm:
    """Fed with the chunks of a body, it keeps the files of the field `image` and nothing else."""

    def __init__(self, content_type: str, max_files: int = 1) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise BadMultipartError("the Content-Type of the form names no boundary")
        self._max_files = max_files
        self._data = bytearray()
        self._photos: list[bytes] = []
        self._names: list[str] = []
        self._files = self._field_bytes = 0
        self._header = self._value = b""
        self._disposition = b""
        self._is_file = self._is_photo = self._text_photo = self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError:
            raise BadMultipartError("the boundary of the form is too long") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise BadMultipartError("the form is not well-formed multipart/form-data") from None

    def photos(self) -> list[bytes]:
        """The files, of which one at least is not empty; NoImageError says what the form has instead."""
        if not self._ended:
            raise BadMultipartError("the form breaks off before its closing boundary")
        if any(self._photos):
            return self._photos
        if self._text_photo:
            raise NoImageError(f"the field '{FIELD}' is text, not a file")
        if FIELD in self._names:
            raise NoImageError(f"the file in the field '{FIELD}' is empty")
        others = ", ".join(repr(name[:32]) for name in self._names[:4])
        raise NoImageError(f"the form has no field '{FIELD}'{f', only {others}' if others else ''}")

    def _on_part_begin(self) -> None:
        self._header = self._value = self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"name" not in options:
            raise BadMultipartError("a part of the form has no name")
        name = options[b"name"].decode("utf-8", "replace")
        self._names.append(name)
        self._is_file = b"filename" in options
        self._is_photo = self._is_file and name == FIELD
        self._text_photo = self._text_photo or (name == FIELD and not self._is_file)
        self._files += self._is_file
        if self._files > self._max_files:
            many = f"{self._max_files} file{'s' if self._max_files > 1 else ''}"
            raise BadMultipartError(f"the form has more than {many}")
        if len(self._names) - self._files > MAX_FIELDS:
            raise BadMultipartError(f"the form has more than {MAX_FIELDS} fields besides the file")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_photo:
            self._data += memoryview(data)[start:end]
        elif not self._is_file:
            self._field_bytes += end - start
            if self._field_bytes > MAX_FIELD_BYTES:
                raise BadMultipartError(f"the fields besides the file have more than {MAX_FIELD_BYTES} bytes")

    def _on_part_end(self) -> None:
        if self._is_photo:
            self._photos.append(bytes(self._data))
            self._data.clear()

    def _on_end(self) -> None:
        self._ended = True
