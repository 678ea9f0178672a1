"""`python -m service --help`: the options, examples, and every FACESWAPD_ variable by what it is about."""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from pydantic.fields import FieldInfo

from service.settings import ENV_PREFIX, Settings

OPTIONS = {
    "address": ("host", "port"),
    "networks": ("bundle", "device", "precision"),
    "log": ("log_level", "log_format"),
}
GROUPS = {
    "networks": (
        "workers",
        "threads",
        "lone_threads",
        "max_batch",
        "batch_window_ms",
        "decoder_memory_mib",
        "pinned",
        "processes",
        "cuda_",
    ),
    "keys and doors": (
        "keys",
        "admin_",
        "published_on",
        "anyone_may_swap",
        "cors_origins",
        "trusted_proxies",
    ),
    "rates": ("address_", "key_"),
    "limits": (
        "queue_images",
        "queue_bytes",
        "photos_in_memory",
        "image_threads",
        "max_body_bytes",
        "max_pixels",
        "decode_bytes",
    ),
    "batches and streams": ("batch_", "stream"),
    "times": (
        "head_timeout_s",
        "body_timeout_s",
        "deadline_ms",
        "handler_timeout_s",
        "answer_timeout_s",
        "slowest_bytes_per_s",
        "shutdown_grace_s",
        "drain_s",
    ),
    "connections": ("connections", "connections_per_address", "answer_bytes"),
    "signed photos": ("c2pa_",),
}
"""Names, or how they begin; what is in no group comes last."""
INTRO = "Swaps faces in photos over HTTP, with the identities of a bundle."
EXAMPLES = """\
examples:
  python -m service                                          bundles/demo on http://127.0.0.1:8000
  python -m service --bundle bundles/mine --port 9000        another bundle, another port
  python -m service --device cuda                            on the GPU or not at all
  FACESWAPD_LOG_FORMAT=json python -m service --host 0.0.0.0

  python -m service.bundle_info bundles/demo                 who is in a bundle, how good, who allowed it
  python -m service.healthcheck                              exit 0 if it is ready
"""
LATER = """\
PROMETHEUS_MULTIPROC_DIR (a folder) makes several processes tell their metrics together; OTEL_ variables
switch traces on. docs/operate.md tells more.
"""


def parser() -> argparse.ArgumentParser:
    """Options are text here; `Settings` checks them as it does the variables."""
    made = argparse.ArgumentParser(
        "python -m service",
        description=INTRO,
        epilog=f"{EXAMPLES}\n{variables()}\n{LATER}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for title, names in OPTIONS.items():
        group = made.add_argument_group(title)
        for name in names:
            field = Settings.model_fields[name]
            text = _told(field)
            group.add_argument(
                f"--{name.replace('_', '-')}", dest=name, help=text.replace("%", "%%"), metavar="X"
            )
    return made


def variables() -> str:
    """Every setting, with what it is and its default."""
    left = [name for name in Settings.model_fields if not any(name in names for names in OPTIONS.values())]
    lines = ["variables (the options above have one each, too: FACESWAPD_PORT ...):"]
    for title, begins in GROUPS.items():
        chosen = [name for name in left if name in begins or name.startswith(_prefixes(begins))]
        left = [name for name in left if name not in chosen]
        lines += ["", f"  {title}", *map(_line, chosen)]
    return "\n".join([*lines, "", "  other", *map(_line, left), ""])


def _prefixes(begins: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(begin for begin in begins if begin not in Settings.model_fields)


def _line(name: str) -> str:
    field = Settings.model_fields[name]
    text = _told(field)
    return textwrap.fill(
        text, 108, initial_indent=f"    {(ENV_PREFIX + name).upper():<32} ", subsequent_indent=" " * 37
    )


def _told(field: FieldInfo) -> str:
    """Where the default follows the machine the description says how."""
    value: Any = field.default
    default = "" if value in (None, (), "") else f" Default: {value}"
    return f"{field.description}{default}"
