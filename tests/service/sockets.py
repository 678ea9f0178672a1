"""A WebSocket client of an app in this process, in ASGI's own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.types import Message


class Client:
    """Sends frames and texts; reads what the app says, message by message."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self.accepted: Message | None = None

    def send(self, data: bytes | str) -> None:
        key = "bytes" if isinstance(data, bytes) else "text"
        self._outbox.put_nowait({"type": "websocket.receive", key: data})

    def leave(self) -> None:
        self._outbox.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def message(self) -> Message:
        return await asyncio.wait_for(self.inbox.get(), 20)

    async def report(self) -> dict[str, Any]:
        message = await self.message()
        assert message["type"] == "websocket.send" and message.get("text"), message
        report: dict[str, Any] = json.loads(message["text"])
        return report

    async def picture(self) -> bytes:
        message = await self.message()
        data = message.get("bytes")
        assert isinstance(data, bytes), message
        return data

    async def closed(self) -> tuple[int, str]:
        message = await self.message()
        assert message["type"] == "websocket.close", message
        return message["code"], message["reason"]

    async def problem(self) -> str:
        """The slug of a report that is a problem."""
        report = await self.report()
        assert "problem" in report, report
        return str(report["problem"]["type"]).removeprefix("/problems/")

    async def receive(self) -> Message:
        return await self._outbox.get()


@asynccontextmanager
async def connected(
    app: FastAPI, query: str = "target=echo", subprotocols: Sequence[str] = (), **headers: str
) -> AsyncIterator[Client]:
    """A socket at /stream, left at the end; an error of the app is raised here."""
    client = Client()
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/stream",
        "raw_path": b"/stream",
        "root_path": "",
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode())
            for name, value in {"host": "service", **headers}.items()
        ],
        "subprotocols": list(subprotocols),
        "extensions": {"websocket.http.response": {}},
    }
    client._outbox.put_nowait({"type": "websocket.connect"})
    job = asyncio.create_task(app(scope, client.receive, client.inbox.put))
    try:
        client.accepted = await client.message()
        yield client
        client.leave()
        await asyncio.wait_for(job, 20)
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
