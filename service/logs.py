"""The log by structlog: lines for people or JSON, on stderr, with request ids and without what was sent.

The service writes by the standard library's logging, and so do its dependencies; structlog gives all of it
one form. Values of variables are never written, and of errors that may quote what was sent only the kind.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import IO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.safety import WithoutKeys
from service.settings import LogFormat, LogLevel
from service.telemetry import FIELDS, REQUEST

QUOTING = (ValueError, LookupError)
"""int("their text"), pydantic's ValidationError, {}["their text"]: the message holds what was sent."""


def configure(level: LogLevel, form: LogFormat, stream: IO[str] | None = None) -> None:
    """Once per process; `stream` is stderr unless a test has its own."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter(form, handler.stream.isatty()))
    handler.addFilter(WithoutKeys())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # without eight lines about start and stop


def formatter(form: LogFormat, colours: bool = False) -> logging.Formatter:
    """For any handler of the standard library."""
    if form is LogFormat.JSON:
        renderer: Processor = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(FIELDS),
            _add_request,
            structlog.processors.TimeStamper("iso", utc=True),
            _add_exception,
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _add_request(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Lines that are written while a request is worked on, whoever writes them."""
    request = REQUEST.get()
    if request is not None:
        event.setdefault("request_id", request.id)
        if request.trace_id:
            event["trace_id"] = request.trace_id
    return event


def _add_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error))
    return event


def _told(error: BaseException) -> Iterator[str]:
    """What happened where, the cause first; without variables."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _told(before)
        yield "which led to:"
    yield from _lines(error.__traceback__)
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    yield name if isinstance(error, QUOTING) else f"{name}: {error}"


def _lines(trace: TracebackType | None) -> Iterator[str]:
    yield "Traceback (most recent call last):"
    yield from "".join(traceback.format_tb(trace)).splitlines()
