"""FACESWAPD_*: every knob of the service, read once at start and handed down. Sizes and times carry units."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from faceswap.cuda import CudaOptions
from faceswap.images import MAX_PIXELS
from faceswap.precisions import Precision
from faceswap.sessions import Device, available_cores
from service.addresses import Networks, is_this_machine

ENV_PREFIX = "FACESWAPD_"
MOST_LONE = 4
"""Threads of a lone run, unless more are asked for: small networks gain little from the fifth."""
ON_CUDA = 32
"""Largest batch there: half of the faces that are inside at most, so that one gathers while one runs."""


Count = Annotated[int, Field(ge=1, le=256)]


def _names(text: object) -> object:
    """will, amara -> the two names."""
    return tuple(name.strip() for name in text.split(",") if name.strip()) if isinstance(text, str) else text


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


def _networks(names: tuple[str, ...]) -> tuple[str, ...]:
    Networks(names)
    return names


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class Settings(BaseSettings):
    """Read from the environment; `docs/api.md` lists them and a test compares the two."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True)

    host: Annotated[str, Field(description="Address to listen on; 0.0.0.0: every interface.")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port to listen on; 0 takes a free one.")] = 8000
    bundle: Annotated[Path, Field(description="Folder of the model bundle.")] = Path("bundles/demo")
    device: Annotated[Device, Field(description="auto, cuda or cpu; cuda refuses to start without CUDA.")] = (
        Device.AUTO
    )
    precision: Annotated[
        Precision,
        Field(description="auto, fp32, int8 (CPU) or fp16 (CUDA); auto: the fastest that passed its gate."),
    ] = Precision.AUTO
    processes: Annotated[
        int,
        Field(ge=1, le=64, description="Services behind the one port, each with networks of its own."),
    ] = 1
    workers: Annotated[
        Count | None,
        Field(description="Threads that run the networks; one per core, on CUDA one."),
    ] = None
    threads: Annotated[Count, Field(description="Threads inside one run of a network on the CPU.")] = 1
    lone_threads: Annotated[
        Count | None,
        Field(description="Threads in a run of the encoder that no other overlaps; by default up to 4."),
    ] = None
    image_threads: Annotated[
        Count | None,
        Field(description="Threads that read, detect, paste and write; by default one per core."),
    ] = None
    max_batch: Annotated[
        Count | None, Field(description="Most faces in one run of a network; by default 8, on CUDA 32.")
    ] = None
    batch_window_ms: Annotated[
        float, Field(ge=0, le=1000, description="How long a free worker waits for more faces to come.")
    ] = 0.0
    cuda_graphs: Annotated[
        bool, Field(description="Record the networks' kernels once for each batch size and replay them.")
    ] = False
    cuda_arena_mib: Annotated[
        int | None, Field(ge=16, description="Most device memory for the arena of one network; no limit.")
    ] = None
    cuda_channels_last: Annotated[
        bool, Field(description="Ask CUDA for convolutions with channels last.")
    ] = False
    decoder_memory_mib: Annotated[
        int,
        Field(ge=0, description="Decoders that were not used for long are let go above this; 0: never."),
    ] = 1024
    pinned: Annotated[
        tuple[str, ...],
        NoDecode,
        BeforeValidator(_names),
        Field(description="Identities that are loaded at the start and never let go, with commas between."),
    ] = ()
    queue_images: Annotated[
        int, Field(ge=1, description="Most faces inside the service; one more gets a 503.")
    ] = 256
    queue_bytes: Annotated[
        int, Field(ge=1, description="Most bytes of bodies inside the service; more gets a 503.")
    ] = 256_000_000
    photos_in_memory: Annotated[
        Count | None,
        Field(description="Most photos worked on for output=photo at once; by default image_threads."),
    ] = None
    max_body_bytes: Annotated[int, Field(ge=1, description="Largest body; a larger one gets a 413.")] = (
        20_000_000
    )
    max_pixels: Annotated[
        int, Field(ge=4096, description="Largest photo, width x height; a larger one gets a 413.")
    ] = MAX_PIXELS
    decode_bytes: Annotated[
        int,
        Field(ge=1_000_000, description="Most memory to decode a photo in; one that needs more gets a 413."),
    ] = 270_000_000
    batch_photos: Annotated[int, Field(ge=1, le=999, description="Most photos of one batch.")] = 100
    batch_bytes: Annotated[int, Field(ge=1, description="Largest body of a batch.")] = 100_000_000
    batch_share: Annotated[
        Count | None,
        Field(description="Photos of batches in work at once; by default half of max_batch."),
    ] = None
    streams: Annotated[Count, Field(description="Most streams at once; one more is closed with 1013.")] = 4
    stream_frame_bytes: Annotated[int, Field(ge=1, description="Largest frame (closed with 1009).")] = (
        2_000_000
    )
    stream_pixels: Annotated[int, Field(ge=4096, description="Largest frame, width x height.")] = 2_100_000
    stream_idle_s: Annotated[
        float, Field(gt=0, description="How long a stream may send nothing (closed with 1001).")
    ] = 30.0
    stream_origins: Annotated[
        str, Field(description="Sites besides the service's own whose pages may open streams, by commas.")
    ] = ""
    body_timeout_s: Annotated[
        float, Field(gt=0, description="How long a body may take to come (408 after it).")
    ] = 30.0
    deadline_ms: Annotated[
        float, Field(gt=0, description="How long a swap may take from body to answer (504 after it).")
    ] = 10_000.0
    shutdown_grace_s: Annotated[
        float, Field(ge=0, description="How long requests in flight may still take after SIGTERM.")
    ] = 20.0
    drain_s: Annotated[
        float,
        Field(ge=0, description="How long to stay reachable, not ready, after SIGTERM."),
    ] = 0.0
    admin_key: Annotated[
        Annotated[SecretStr, Field(min_length=16)] | None,
        BeforeValidator(lambda key: key or None),
        Field(description="Opens /admin to who sends it; without one /admin is closed."),
    ] = None
    c2pa_certificate: Annotated[
        Path | None,
        Field(description="PEM file: the certificate that output=photo is signed with, and its chain."),
    ] = None
    c2pa_key: Annotated[Path | None, Field(description="PEM file: the private key of c2pa_certificate.")] = (
        None
    )
    admin_port: Annotated[
        Annotated[int, Field(ge=1, le=65535)] | None,
        BeforeValidator(lambda port: port or None),
        Field(description="Port that /admin and /metrics move to, away from `port`."),
    ] = None
    admin_host: Annotated[str, Field(description="Address that admin_port is opened on.")] = "127.0.0.1"
    keys_file: Annotated[
        Path | None,
        BeforeValidator(lambda path: path or None),
        Field(description="File of API keys (hashed), made by `python -m service.keys new`."),
    ] = None
    keys: Annotated[str, Field(repr=False, description="The lines of such a file themselves.")] = ""
    published_on: Annotated[
        Names, Field(description="Addresses that lead here from outside a container; by default `host`.")
    ] = ()
    anyone_may_swap: Annotated[
        bool, Field(description="Start without API keys although other machines can reach the service.")
    ] = False
    address_swaps_per_s: Annotated[
        float, Field(ge=0, description="Faces that one address may ask for in the long run; 0: no limit.")
    ] = 0.0
    address_burst: Annotated[int, Field(ge=1, description="Faces of one address at once.")] = 60
    key_swaps_per_s: Annotated[
        float, Field(ge=0, description="Faces that one key may ask for in the long run; 0: no limit.")
    ] = 0.0
    key_burst: Annotated[int, Field(ge=1, description="Faces of one key at once.")] = 120
    trusted_proxies: Annotated[
        Names,
        AfterValidator(_networks),
        Field(description="Addresses or networks whose X-Forwarded-For is believed, by commas."),
    ] = ()
    cors_origins: Annotated[
        Names, Field(description="Sites whose pages may call the service, by commas; * for any.")
    ] = ()
    connections: Annotated[int, Field(ge=8, description="Most connections at once.")] = 1000
    connections_per_address: Annotated[
        int, Field(ge=1, description="Most connections of one address; trusted proxies are free of it.")
    ] = 500
    head_timeout_s: Annotated[
        float, Field(gt=0, description="How long the head of a request may take to come (408 after it).")
    ] = 10.0
    handler_timeout_s: Annotated[
        float, Field(gt=0, description="How long any answer may take to begin once the request is here.")
    ] = 60.0
    answer_timeout_s: Annotated[
        float, Field(gt=0, description="How long a client may take less than slowest_bytes_per_s.")
    ] = 30.0
    slowest_bytes_per_s: Annotated[
        int, Field(ge=0, description="Bodies and answers slower than this are cut off; 0: only if they stop.")
    ] = 1000
    answer_bytes: Annotated[
        int, Field(ge=1, description="Most bytes of answers that wait for slow readers, then they are cut.")
    ] = 256_000_000
    log_level: Annotated[LogLevel, Field(description="debug, info, warning or error.")] = LogLevel.INFO
    log_format: Annotated[
        LogFormat, Field(description="console, for people, or json: a line of JSON each.")
    ] = LogFormat.CONSOLE

    @model_validator(mode="after")
    def _admin_has_a_port_of_its_own(self) -> Self:
        if self.admin_port is None:
            return self
        if self.admin_port == self.port:
            raise ValueError("the port is that of FACESWAPD_PORT too")
        if self.processes > 1:
            raise ValueError("only one process can have it; leave it out, or FACESWAPD_PROCESSES")
        return self

    def is_open_to_others(self) -> bool:
        """May other machines reach it? In a container `published_on` knows, not `host`."""
        return not all(is_this_machine(address) for address in self.published_on or (self.host,))

    def worker_count(self, provider: str) -> int:
        return self.workers or (1 if _on_cuda(provider) else available_cores())

    def lone_thread_count(self) -> int:
        """Threads that others need are not taken: several processes know nothing of each other."""
        return self.lone_threads or (1 if self.processes > 1 else min(self.worker_count("CPU"), MOST_LONE))

    def batch_limit(self, provider: str) -> int:
        return self.max_batch or (ON_CUDA if _on_cuda(provider) else 8)

    def cuda(self) -> CudaOptions:
        arena = self.cuda_arena_mib * 2**20 if self.cuda_arena_mib else None
        return CudaOptions(self.max_batch or ON_CUDA, self.cuda_graphs, arena, self.cuda_channels_last)

    def loader_count(self) -> int:
        """Threads that load decoders: a load takes tens of milliseconds, and the cores have other work."""
        return max(1, available_cores() // 4)

    def decoder_bytes(self) -> int | None:
        return self.decoder_memory_mib * 2**20 or None

    def batch_share_limit(self, provider: str) -> int:
        return self.batch_share or max(self.batch_limit(provider) // 2, 1)

    def image_thread_count(self) -> int:
        return self.image_threads or available_cores()


def _on_cuda(provider: str) -> bool:
    return provider.startswith("CUDA")


def complaint(error: ValidationError) -> str:
    """One line that names each wrong setting by its variable, without the value (it may be a secret)."""
    entries = [(e["loc"] or ("admin_port",), e["msg"]) for e in error.errors()]
    parts = [f"{ENV_PREFIX}{'.'.join(map(str, where)).upper()}: {what}" for where, what in entries]
    return "; ".join(parts)


def unknown_variables() -> list[str]:
    """FACESWAPD_* names in the environment that no setting reads: most likely slips of the pen."""
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    ours = {name for name in os.environ if name.upper().startswith(ENV_PREFIX)}
    return sorted(name for name in ours if name.upper() not in known)
