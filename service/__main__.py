"""python -m service: open the bundle, listen, say so; refuse in one line with exit code 2."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from faceswap import BundleError, DeviceError, Swapper
from faceswap.errors import SHOWN
from faceswap.memory import limit_heaps
from faceswap.sessions import available_cores
from service import exposition, logs, manual
from service.app import create_app
from service.crowd import Crowd, allow_files
from service.errors import SigningError
from service.keyring import check_doors
from service.keys import KeysError
from service.library import PhotoSwapper
from service.lifecycle import Phase
from service.parts import Parts
from service.processes import serve_together
from service.server import Server
from service.settings import Settings, complaint, unknown_variables
from service.shedding import Shedder
from service.tracing import TracingError
from service.wire import protocols

REFUSED = 2
CORES_PER_HEAP = 4
"""malloc's lock is held for well below a microsecond; more than two cores were not measured."""

log = logging.getLogger("faceswapd")


class StartError(Exception):
    """The service cannot start; the message is one line for the person who started it."""


def main(arguments: list[str] | None = None) -> int:
    return guarded(arguments, lambda settings: run(settings, arguments))


def guarded(arguments: list[str] | None, step: Callable[[Settings], int]) -> int:
    """`step` with the settings; what is the user's to mend is one line and REFUSED."""
    try:
        return step(read_settings(arguments))
    except (StartError, KeysError, BundleError, DeviceError, SigningError, TracingError) as error:
        return _refuse(error)
    except KeyboardInterrupt:  # before the server took over the signals
        return 130


def read_settings(arguments: list[str] | None) -> Settings:
    """The environment, overruled by the few options there are."""
    options = vars(manual.parser().parse_args(arguments))
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise StartError(complaint(error)) from None


def run(settings: Settings, arguments: list[str] | None) -> int:
    logs.configure(settings.log_level, settings.log_format)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server reloads by it
    prepare_metrics()
    for name in unknown_variables():
        log.warning("no setting reads the variable %s", name)
    check_doors(settings)
    allow_files(settings.connections)
    with bind(settings.host, settings.port) as listener:
        if settings.processes > 1:
            given = sys.argv[1:] if arguments is None else arguments
            with metrics_of_all():
                return serve_together(settings.processes, listener, given)
        return open_and_serve(settings, listener)


def open_and_serve(
    settings: Settings, listener: socket.socket, ready: Callable[[], None] = lambda: None
) -> int:
    limit_heaps(max(available_cores() // CORES_PER_HEAP, 1))
    swapper = Swapper.open(
        settings.bundle,
        settings.device,
        settings.threads,
        settings.precision,
        settings.decoder_bytes(),
        settings.pinned,
        settings.cuda(),
        settings.lone_thread_count(),
    )
    return serve(settings, swapper, listener, ready)


@contextmanager
def metrics_of_all() -> Iterator[None]:
    """A block whose processes have a folder for their metrics."""
    with ExitStack() as held:
        try:
            held.enter_context(exposition.folder_for_all())
        except OSError as error:
            raise StartError(f"no temporary folder for metrics: {error.strerror or error}") from None
        yield


def prepare_metrics() -> None:
    """The folder that prometheus-client wants to be there."""
    folder = exposition.shared_folder()
    try:
        if folder is not None:
            exposition.prepare(folder)
    except OSError as error:
        raise StartError(f"{exposition.VARIABLE}: cannot use the folder: {error.strerror or error}") from None


def serve(
    settings: Settings,
    swapper: PhotoSwapper,
    listener: socket.socket,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Runs until a signal comes; the exit code. `ready` is called once, when the networks are warm."""
    app = create_app(settings, swapper)
    parts: Parts = app.state.parts
    crowd = Crowd(settings)
    http, websockets = protocols(crowd, Shedder(parts))
    # Both named: "auto" takes what happens to be installed. uvloop was no faster here than asyncio.
    config = uvicorn.Config(
        app,
        http=http,
        ws=websockets,
        proxy_headers=False,  # service/doors.py reads them, where the proxy is trusted
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        ws_max_size=settings.stream_frame_bytes,
        ws_per_message_deflate=False,  # frames are compressed already
    )
    listeners = [listener]
    if settings.admin_port is not None:
        listeners.append(bind(settings.admin_host, settings.admin_port))

    def announce() -> None:
        _announce(parts, listener)
        ready()

    Server(config, parts, crowd, announce).run(listeners)
    return REFUSED if parts.lifecycle.phase is Phase.FAILED else 0  # the log has said why


def bind(host: str, port: int) -> socket.socket:
    """Before the bundle is loaded, so that a port in use is known at once.

    The protocol is named because asyncio sets TCP_NODELAY only where it stands: without, each
    answer on a kept connection waits 40 ms for a delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None
    return listener


def _announce(parts: Parts, listener: socket.socket) -> None:
    """The address and a line to paste. Targets are plain words, the bundle's manifest sees to it."""
    host, port = listener.getsockname()[:2]
    address = f"{'localhost' if host in ('0.0.0.0', '127.0.0.1', '::', '::1') else host}:{port}"
    names = [entry.name for entry in parts.swapper.manifest.identities]
    target = "will" if "will" in names or not names else names[0]
    photo = "examples/a.jpg" if Path("examples/a.jpg").exists() else "photo.jpg"
    key = '-H "Authorization: Bearer $KEY" ' if parts.keyring.is_needed else ""
    lines = (
        f"faceswapd is ready: http://{address} ({_shown(names)}; {parts.swapper.provider}, "
        f"{parts.swapper.precision}, {parts.workers} workers)\n"
        f"  curl {key}-F image=@{photo} '{address}/swap?target={target}' -o {target}.png\n"
    )
    with suppress(OSError):  # a full disk or a reader that has left is no reason not to serve
        os.write(sys.stdout.fileno(), lines.encode())  # not by a buffer, whose last flush would fail at exit


def _shown(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{len(names)} identities"


def _refuse(error: Exception) -> int:
    text = str(error).partition("\n")[0] or type(error).__name__
    sys.stderr.write(f"faceswapd: {text}\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main())
