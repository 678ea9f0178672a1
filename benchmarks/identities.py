"""python -m benchmarks.identities: a thousand identities behind one service, beside a service with one."""

from __future__ import annotations

import argparse
import http.client
import io
import itertools
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image as PillowImage

from benchmarks import crowd
from benchmarks.machine import facts
from benchmarks.progress import each
from benchmarks.server import HOST, Server, serving
from benchmarks.visitors import Visit, beside_cold, visits, zipf
from faceswap.bundle import Bundle
from faceswap.errors import SwapError
from faceswap.sessions import Device
from faceswap.swapper import Swapper

RESULTS = Path(__file__).parent / "results"
PHOTO = Path(__file__).parent.parent / "examples" / "a.jpg"
KEY = "only for this benchmark"
FIRST_SWAPS = 20
MAX_MEMORY_MIB = 1500 * 1e6 / 2**20
MAX_COLD_MS = 150
MAX_RATIO = 1.2


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a request failed, or 2 after one clear line for what could not be measured."""
    options = _parser().parse_args(arguments)
    try:
        report = measure(options)
    except (SwapError, OSError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"benchmarks.identities: {error}\n")
        return 2
    print(table(report))
    file: Path = options.out / f"identities-{report['provider']}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nalso in {file.parent.name}/{file.name}")
    return 1 if report["errors"] else 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both services side by side; one is asked at a time, in turns, so that both have the same minutes."""
    bundle = Bundle.open(options.bundle)
    crop = _crop(options.bundle)
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch)
        crowd.write(bundle, folder, options.identities)
        with _both(options, folder) as (one, many):
            return {
                "measured": datetime.now(UTC).date().isoformat(),
                "machine": facts(),
                "bundle": bundle.manifest.name,
                "provider": str(_health(many)["provider"]).removesuffix("ExecutionProvider").lower(),
                "identities": options.identities,
                "decoder_file_mib": round(bundle.manifest.identities[0].decoder.bytes / 2**20, 2),
                "limit_mib": options.limit_mib,
                "zipf": options.zipf,
                "rounds": options.rounds,
                "seconds": options.seconds,
                **_figures(options, crop, bundle.manifest.identities[0].name, one, many, folder),
            }


@contextmanager
def _both(options: argparse.Namespace, folder: Path) -> Iterator[tuple[Server, Server]]:
    same = {"FACESWAPD_PRECISION": "fp32"}  # the crowd has no other
    more = {"FACESWAPD_DECODER_MEMORY_MIB": str(options.limit_mib), "FACESWAPD_ADMIN_KEY": KEY}
    with (
        serving(options.bundle, options.device, more=same) as one,
        serving(folder, options.device, more=same | more) as many,
    ):
        yield one, many


def _figures(
    options: argparse.Namespace, crop: bytes, identity: str, one: Server, many: Server, folder: Path
) -> dict[str, Any]:
    names = [crowd.name(number) for number in range(options.identities)]
    idle_mib = many.memory_mib()
    first = _first_swaps(many, crop, names)
    targets = zipf(names, options.zipf)
    visits(many.port, crop, targets, max(options.concurrency), options.fill_seconds)
    levels = each(options.concurrency, len(options.concurrency), "level")
    rows = [_row(options, crop, identity, one, many, targets, c) for c in levels]
    reload = _reload(options, crop, many, targets, folder)
    health = _health(many)
    return {
        "start_s": round(many.start_s, 2),
        "memory_idle_mib": _round(idle_mib),
        "memory_mib": _round(many.memory_mib()),
        "memory_peak_mib": _round(many.memory_mib(peak=True)),
        "decoders_loaded": len(health["decoders"]["loaded"]),
        "decoders_mib": health["decoders"]["memory_mib"],
        "first_swap_ms": first,
        "rows": rows,
        "reload": reload,
        "errors": first["errors"] + reload["errors"] + sum(row["errors"] for row in rows),
    }


def _first_swaps(many: Server, crop: bytes, names: Sequence[str]) -> dict[str, Any]:
    """One visitor alone asks for identities that nobody asked for before; the last ones."""
    wanted = list(reversed(names))[: min(FIRST_SWAPS, len(names) // 2) + 1]
    found = visits(many.port, crop, iter(wanted), 1, math.inf)[1:]  # the very first warms the rest up
    return {**_summary(found), "highest_ms": max((_ms(v.seconds) for v in found), default=None)}


def _row(
    options: argparse.Namespace,
    crop: bytes,
    identity: str,
    one: Server,
    many: Server,
    targets: Iterator[str],
    concurrency: int,
) -> dict[str, Any]:
    """The one-identity service and the crowd's in turns: medians of the rounds."""
    alone: list[list[Visit]] = []
    mixed: list[list[Visit]] = []
    for _ in range(options.rounds):
        same = itertools.repeat(identity)
        alone.append(visits(one.port, crop, same, concurrency, options.seconds))
        mixed.append(visits(many.port, crop, targets, concurrency, options.seconds))
    warm = [[visit for visit in found if not visit.cold] for found in mixed]
    cold = [[visit for visit in found if visit.cold] for found in mixed]
    row: dict[str, Any] = {
        "concurrency": concurrency,
        "one": _medians(alone),
        "warm": _medians(warm),
        "warm_beside_cold": _medians([beside_cold(found) for found in mixed]),
        "cold": _medians(cold),
        "cold_share": round(sum(map(len, cold)) / max(sum(map(len, mixed)), 1), 3),
        "errors": sum(not visit.good for found in (*alone, *mixed) for visit in found),
    }
    low, high = row["one"]["p95_ms"], row["warm"]["p95_ms"]
    row["warm_p95_over_one"] = round(high / low, 2) if low and high else None
    return row


def _reload(
    options: argparse.Namespace, crop: bytes, many: Server, targets: Iterator[str], folder: Path
) -> dict[str, Any]:
    """The most popular identity is replaced while visitors come."""
    with ThreadPoolExecutor(1) as pool:
        concurrency = max(options.concurrency)
        asked = pool.submit(visits, many.port, crop, targets, concurrency, options.seconds)
        time.sleep(options.seconds / 4)
        crowd.replace_first(folder)
        answer = _request(many, "POST", "/admin/reload", {"Authorization": f"Bearer {KEY}"})
        found = asked.result()
    warm = [visit for visit in found if not visit.cold]
    return {"seconds": answer["seconds"], "replaced": answer["replaced"], **_summary(warm)}


def _medians(rounds: Sequence[Sequence[Visit]]) -> dict[str, Any]:
    """Of the figures of each round that has any."""
    each = [_summary(found) for found in rounds if found]
    keys = ("per_round", "p50_ms", "p95_ms")
    return {key: _round(statistics.median(e[key] for e in each)) if each else None for key in keys}


def _summary(found: Sequence[Visit]) -> dict[str, Any]:
    seconds = [visit.seconds for visit in found if visit.good]
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return {
        "per_round": len(seconds),
        "p50_ms": _ms(cuts[49]) if cuts else None,
        "p95_ms": _ms(cuts[94]) if cuts else None,
        "errors": sum(not visit.good for visit in found),
    }


def table(report: dict[str, Any]) -> str:
    """The report as text of fixed width, and what the goals say to it."""
    machine, first, reload = report["machine"], report["first_swap_ms"], report["reload"]
    lines = [
        f"{report['identities']} identities of {report['decoder_file_mib']} MiB each, {report['provider']}; "
        f"at most {report['limit_mib']} MiB of decoders; Zipf {report['zipf']:g}",
        f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}",
        f"medians of {report['rounds']} rounds of {report['seconds']:g} s; ready after {report['start_s']} s",
        "",
        f"{'':30}{'swaps':>8}{'p50 ms':>9}{'p95 ms':>9}",
    ]
    for row in report["rows"]:
        for key in ("one", "warm", "warm_beside_cold", "cold"):
            label = f"{key.replace('_', ' ')}, c={row['concurrency']}"
            lines.append(f"{label:30}" + _cells(row[key]))
        lines.append(f"{'':4}cold: {row['cold_share']:.1%}; warm p95 over one: {row['warm_p95_over_one']}")
    lines += [
        f"{'first swap of an identity':30}" + _cells(first),
        f"{'during a reload, warm':30}" + _cells(reload),
        "",
        f"a reload that replaced {', '.join(reload['replaced'])} took {reload['seconds']} s",
        f"memory: {report['memory_idle_mib']} MiB when ready, {report['memory_mib']} at the end with "
        f"{report['decoders_loaded']} decoders ({report['decoders_mib']} MiB by the service's own count), "
        f"{report['memory_peak_mib']} at its peak",
        "",
        *(f"{'reached' if reached else 'MISSED ':8} {goal}" for goal, reached in goals(report)),
    ]
    return "\n".join(lines)


def goals(report: dict[str, Any]) -> list[tuple[str, bool]]:
    """What was wanted, with what was found, and whether that is enough."""
    peak, first = report["memory_peak_mib"], report["first_swap_ms"]["p95_ms"]
    found = [
        (
            f"peak memory {peak} MiB, wanted < {MAX_MEMORY_MIB:.0f}",
            peak is not None and peak < MAX_MEMORY_MIB,
        ),
        (f"first swap p95 {first} ms, wanted <= {MAX_COLD_MS}", first is not None and first <= MAX_COLD_MS),
    ]
    for row in report["rows"]:
        ratio = row["warm_p95_over_one"]
        words = f"warm p95 over that of one identity, c={row['concurrency']}: {ratio}, wanted <= {MAX_RATIO}"
        found.append((words, ratio is not None and ratio <= MAX_RATIO))
    return found


def _cells(figures: dict[str, Any]) -> str:
    cells = (figures["per_round"], figures["p50_ms"], figures["p95_ms"])
    return "".join(
        f"{'-' if cell is None else round(cell, 1)!s:>{width}}"
        for cell, width in zip(cells, (8, 9, 9), strict=True)
    )


def _health(server: Server) -> dict[str, Any]:
    return _request(server, "GET", "/health", {})


def _request(server: Server, method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    connection = http.client.HTTPConnection(HOST, server.port, timeout=600)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body: dict[str, Any] = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{method} {path} answered {answer.status}: {body.get('detail')}")
    return body


def _crop(bundle: Path) -> bytes:
    """A PNG of an aligned face."""
    swapper = Swapper.open(bundle, Device.CPU)
    image = swapper.read(PHOTO)
    crop = swapper.align(image, swapper.find_face(image))
    file = io.BytesIO()
    PillowImage.fromarray(crop.pixels).save(file, "PNG")
    return file.getvalue()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 2)


def _round(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identities", description=__doc__)
    parser.add_argument(
        "--bundle", type=Path, default=Path("bundles/demo"), help="where the graphs come from"
    )
    parser.add_argument("--device", type=Device, choices=list(Device), default=Device.AUTO)
    parser.add_argument("--identities", type=int, default=1000)
    parser.add_argument("--limit-mib", type=int, default=1024, help="FACESWAPD_DECODER_MEMORY_MIB")
    parser.add_argument("--zipf", type=float, default=1.0, help="rank r is asked for 1 / r ** this often")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8], help="visitors at a time")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are taken over them")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--fill-seconds", type=float, default=20.0, help="visits before the measuring begins")
    parser.add_argument("--scratch", type=Path, help="folder for the bundle: 4 GB for 1,000 identities")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
