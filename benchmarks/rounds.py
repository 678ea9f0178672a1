"""The rows of a round: the ceilings, the service, the peers, each under the same load."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.bare import Bare
from benchmarks.load import Post, multipart, send_for
from benchmarks.peers import PEERS, Peer, started
from benchmarks.pictures import Upload
from benchmarks.progress import Step
from benchmarks.report import Row, median
from benchmarks.server import HOST, Server, serving
from benchmarks.strain import flooded, steady
from benchmarks.subject import Subject

BATCHES = (1, 8)
CAPACITY_C = 32
"""Connections that keep the service busy all the time: what it answers then is its capacity."""


@dataclass(slots=True)
class Run:
    """One run of the benchmark: what is measured, and the figures so far."""

    options: argparse.Namespace
    subject: Subject
    bare: Bare
    crop: Upload
    photo: Upload
    rows: dict[tuple[str, str, int | None], Row] = field(default_factory=dict)
    bare_call_ms: list[float] = field(default_factory=list)
    library_call_ms: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    idle_mib: list[float | None] = field(default_factory=list)
    peak_mib: list[float | None] = field(default_factory=list)
    steady: list[dict[str, Any]] = field(default_factory=list)
    flooded: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def row(self, kind: str, name: str, concurrency: int | None, of: str) -> Row:
        return self.rows.setdefault((kind, name, concurrency), Row(name, concurrency, kind, of))


def bare_rows(run: Run) -> None:
    seconds = run.options.seconds
    for batch in BATCHES:
        row = run.row("bare", f"bare onnxruntime, batch {batch}", None, "networks")
        row.add_bare(run.bare.networks(batch, seconds))
    for upload, of in ((run.crop, "crops"), (run.photo, "pictures")):
        row = run.row("bare", f"bare library, {upload.name}", None, of)
        row.add_bare(run.bare.pictures(upload, seconds))
    run.bare_call_ms.append(run.bare.networks_ms(seconds / 2))
    run.library_call_ms.append(run.bare.picture_ms(run.crop, seconds / 2))


CONNECTIONS = 10_000
"""More than an open loop has at once."""


@contextmanager
def service(run: Run) -> Iterator[Server]:
    """With room for every connection of the rows: a 503 is an answer, but no swap.

    And for every connection of an open loop, which all come from one address.
    """
    room = str(max(64, *run.options.concurrency))
    crowd = dict.fromkeys(("FACESWAPD_CONNECTIONS", "FACESWAPD_CONNECTIONS_PER_ADDRESS"), str(CONNECTIONS))
    variables = {**run.subject.variables(), "FACESWAPD_QUEUE_IMAGES": room, **crowd}
    with serving(run.options.bundle, run.options.device, more=variables) as server:
        run.starts.append(server.start_s)
        run.idle_mib.append(server.memory_mib())
        yield server


def service_rows(run: Run, server: Server, number: int) -> None:
    """Form and raw body in turns and close together, so that only how the picture is sent differs."""
    crops: list[tuple[Row, Post]] = []
    for kind, name, post in (
        ("service", run.crop.name, form(server, run.crop)),
        ("service raw", f"{run.crop.name}, raw body", _raw(server, run.crop)),
    ):
        if kind == "service" or peers(run):
            crops += [(run.row(kind, name, c, "networks"), post) for c in run.options.concurrency]
    photo = form(server, run.photo)
    photos = [(run.row("service", run.photo.name, c, "pictures"), photo) for c in run.options.concurrency]
    turns = sorted(crops, key=lambda pair: pair[0].concurrency or 0, reverse=number % 2 == 1)
    for row, post in (*turns, *photos):
        drive(row, server, post, row.concurrency or 1, run.options.seconds)


def strained(run: Run, server: Server, number: int) -> None:
    now = run.rows["service", run.crop.name, _nearest(run)].rates[-1]
    post, seconds = form(server, run.crop), 2 * run.options.seconds
    if now:
        run.steady.append(steady(post, now, seconds, seed=number))
        run.flooded.append(flooded(post, now, seconds, seed=number))


def peer_rows(run: Run, number: int, step: Step) -> None:
    """Each peer with the fp32 graphs and with those of the service; every round begins with another one."""
    chosen = peers(run)
    first = number % max(len(chosen), 1)
    for peer in [*chosen[first:], *chosen[:first]]:
        for kind, graphs, subject in (
            ("peer fp32", ", fp32 graphs", Subject(run.subject.bundle, run.subject.device, "fp32")),
            ("peer same", ", our graphs", run.subject),
        ):
            try:
                with started(peer, run.options.peers, subject) as server:
                    post = (form if peer.takes_forms else _raw)(server, run.crop)
                    for concurrency in run.options.concurrency:
                        row = run.row(kind, f"{peer.name}{graphs}", concurrency, "networks")
                        drive(row, server, post, concurrency, run.options.seconds)
            except (RuntimeError, OSError) as error:  # one peer less is no reason to lose the run
                run.failed[f"{peer.name}, {kind}"] = str(error).strip().splitlines()[-1]
                sys.stderr.write(f"benchmarks.serving: {peer.name}: {error}\n")
            step(f"{peer.name}, {kind}")


def peers(run: Run) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in run.options.only] if run.options.peers else []


def drive(row: Row, server: Server, post: Post, concurrency: int, seconds: float) -> None:
    """One round of `row`: its answers and what they cost the server in processor time."""
    before = server.cpu_s()
    warm_up, answers = send_for(post, concurrency, seconds)
    after = server.cpu_s()
    share = len(answers.seconds) / max(len(answers.seconds) + len(warm_up.seconds), 1)
    row.add(answers, None if before is None or after is None else (after - before) * share)


def form(server: Server, upload: Upload) -> Post:
    """As `curl -F image=@picture` sends it."""
    return Post(f"http://{HOST}:{server.port}/swap?{upload.query}", multipart(upload.picture))


def _raw(server: Server, upload: Upload) -> Post:
    """The picture is the body, as `curl --data-binary @picture` sends it."""
    return Post(f"http://{HOST}:{server.port}/swap?{upload.query}", upload.picture, upload.media_type)


def _nearest(run: Run) -> int:
    """Of the measured concurrencies that which stands for the capacity."""
    found: int = min(run.options.concurrency, key=lambda c: abs(c - CAPACITY_C))
    return found


def capacity(run: Run) -> float:
    return median(run.rows["service", run.crop.name, _nearest(run)].rates, 2) or 1.0
