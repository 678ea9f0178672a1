"""Clients that hold on to connections; `python -m tests.torture.slow_clients MODE COUNT PORT SECONDS`.

They come from many addresses of this machine, as a crowd of machines would, and come again when they are
sent away. It prints how many connections were made in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
ADDRESSES = 10
"""127.0.1.1 and so on; none of them is the honest client's."""
PAUSE_S = 1.0
HEAD = b"POST /swap?target=echo&crop=none HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
PAGE = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
SMALL_WINDOW = 2048

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def heads(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Slowloris: a header line now and then, and never the last one."""
    writer.write(HEAD)
    while not writer.is_closing():
        writer.write(b"X-More: 1\r\n")
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


async def bodies(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of a million bytes, ten a second."""
    writer.write(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x" * 10)
        await writer.drain()
        await asyncio.sleep(PAUSE_S)


async def readers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask for much and read little of it."""
    writer.write(PAGE * 5)
    while not writer.is_closing():
        await reader.read(32)
        await asyncio.sleep(PAUSE_S)


async def idle(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


MODES: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = {
    mode.__name__: mode for mode in (heads, bodies, readers, idle)
}


async def attack(mode: str, count: int, port: int, seconds: float) -> int:
    """`count` at a time; how many connections there were."""
    made = 0

    async def one(number: int) -> None:
        nonlocal made
        address = f"127.0.1.{1 + number % ADDRESSES}"
        while True:
            writer = None
            with contextlib.suppress(OSError):
                reader, writer = await _connected(address, port)
                made += 1
                await MODES[mode](reader, writer)
            if writer is not None:
                writer.transport.abort()
            await asyncio.sleep(0.1)

    tasks = [asyncio.create_task(one(number)) for number in range(count)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return made


async def _connected(address: str, port: int) -> Stream:
    sock = socket.socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        sock.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
        return await asyncio.open_connection(sock=sock, limit=64)
    except OSError:
        sock.close()
        raise


if __name__ == "__main__":
    mode, count, port, seconds = sys.argv[1:]
    sys.stdout.write(f"{asyncio.run(attack(mode, int(count), int(port), float(seconds)))}\n")
