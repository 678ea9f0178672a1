"""What is counted while the service works, by prometheus-client; what is looked at: service/gauges.py.

A request costs a few observations of about a microsecond each: children are looked up in plain dictionaries,
and the networks' times are noted once for each batch, not for each face.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from typing import Final, Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from faceswap.faces import Pixels, Swapped
from service.errors import kind_of
from service.inference import Latents, Networks
from service.telemetry import Clock

REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
FACES = (1, 2, 4, 8, 16, 32, 64, 128)
SWAPPED: Final = "swapped"
OTHERS: Final = "(others)"
NAMES: Final = 1000
"""Identities that get a label of their own: 100,000 would make every scrape heavy."""
REFUSALS = frozenset({401, 403, 408, 413, 429, 503, 504})
"""Statuses that tell of the service's limits and state, not of the photo."""

T = TypeVar("T")


class Answered(Protocol):
    """The part of an `Answer` that is counted."""

    @property
    def target(self) -> str: ...

    @property
    def clock(self) -> Clock: ...


class Metrics:
    """One per app, with a registry of its own. From any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Requests by method, route and status, from their head to the last byte of the answer.",
            ("method", "route", "status"),
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self._faces = self._counter(
            "swap_requests", "Faces asked for, also by streams; outcome: swapped, or a problem's name.",
            "identity", "outcome",
        )  # fmt: skip
        self._rejected = self._counter(
            "swap_rejected", "Requests and frames refused for the service's limits or state, by problem.",
            "reason",
        )  # fmt: skip
        self._frames_dropped = self._counter(
            "swap_frames_dropped", "Frames of streams that newer ones replaced."
        )
        self._loads = self._counter(
            "swap_loads", "Networks brought into memory; what: decoder, bundle; outcome: done, failed.",
            "what", "outcome",
        )  # fmt: skip
        self._wait = Histogram(
            "swap_queue_wait_seconds",
            "How long a face waited for free threads and workers, in all.",
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "swap_batch_size", "Faces encoded in one run.", buckets=FACES, registry=self.registry
        )
        infer = Histogram(
            "swap_infer_seconds",
            "One run of the networks for a batch, by stage: encode, decode.",
            ("stage",),
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        steps = Histogram(
            "swap_step_seconds",
            "The other steps of a face, as in Server-Timing: read, detect, load, paste, write.",
            ("step",),
            buckets=STEP_SECONDS,
            registry=self.registry,
        )
        self._encode, self._decode = infer.labels("encode"), infer.labels("decode")
        self._steps = {name: steps.labels(name) for name in ("read", "detect", "load", "paste", "write")}
        self._by_request: dict[tuple[str, str, int], Histogram] = {}
        self._by_face: dict[tuple[str, str], Counter] = {}
        self._names: set[str] = set()
        for what in ("decoder", "bundle"):  # there from the start: a rate needs a zero before the first one
            self._loads.labels(what, "failed")

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float, problem: str | None) -> None:
        """Method and route as the app knows them, not in the client's words; `problem`: its short name."""
        key = method, route, status
        child = self._by_request.get(key)
        if child is None:
            child = self._by_request[key] = self._requests.labels(method, route, str(status))
        child.observe(seconds)
        if problem is not None and not route.startswith("/health"):
            self.refused(status, problem)

    def refused(self, status: int, problem: str) -> None:
        """Counts where the status is one of the service's limits or state."""
        if status in REFUSALS:
            self._rejected.labels(problem).inc()

    def answered(self, answer: Answered) -> None:
        """A picture that goes out."""
        self.swapped(answer.target, answer.clock)

    def swapped(self, identity: str, clock: Clock) -> None:
        """A face that was swapped, and where its time went."""
        self._face(identity, SWAPPED)
        for step, seconds in clock.spans.items():
            if step == "queue":
                self._wait.observe(seconds)
            elif (child := self._steps.get(step)) is not None:
                child.observe(seconds)

    def failed(self, targets: Iterable[str], error: Exception) -> None:
        for target in targets:
            self._face(target, kind_of(error).slug)

    async def watched(self, targets: Iterable[str], work: Awaitable[T]) -> T:
        """The result of `work`; what it raises is counted for each of the `targets`."""
        try:
            return await work
        except Exception as error:
            self.failed(targets, error)
            raise

    def dropped_frame(self) -> None:
        self._frames_dropped.inc()

    def loaded(self, what: str, done: bool) -> None:
        self._loads.labels(what, "done" if done else "failed").inc()

    def timed(self, networks: Networks) -> Networks:
        """The same networks, whose runs are noted."""
        return _Timed(networks, self._encode, self._decode, self._batch)

    def _face(self, identity: str, outcome: str) -> None:
        child = self._by_face.get((identity, outcome))
        if child is None:
            if len(self._names) < NAMES:
                self._names.add(identity)
            name = identity if identity in self._names else OTHERS
            child = self._faces.labels(name, outcome)
            if name != OTHERS:
                self._by_face[identity, outcome] = child
        child.inc()


class _Timed:
    """Networks with a watch; made anew for each batch."""

    __slots__ = ("_batch", "_decode", "_encode", "_networks")

    def __init__(self, networks: Networks, encode: Histogram, decode: Histogram, batch: Histogram) -> None:
        self._networks, self._encode, self._decode, self._batch = networks, encode, decode, batch

    def encode(self, crops: Pixels) -> Latents:
        started = time.monotonic()
        latents = self._networks.encode(crops)
        self._encode.observe(time.monotonic() - started)
        self._batch.observe(len(crops))
        return latents

    def decode_faces(self, latents: Latents, identity: str) -> list[Swapped]:
        started = time.monotonic()
        faces = self._networks.decode_faces(latents, identity)
        self._decode.observe(time.monotonic() - started)
        return faces
