"""Closed-loop load over HTTP by a process of its own: `hey` where it is installed, else this module."""

from __future__ import annotations

import argparse
import csv
import http.client
import io
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

BOUNDARY = "faceswapd-benchmark"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back: seconds of each good answer, how many others, and how long it all took."""

    seconds: list[float]
    errors: int
    wall_s: float

    @property
    def rate(self) -> float:
        """Good answers per second."""
        return len(self.seconds) / self.wall_s if self.wall_s else 0.0

    def percentile(self, percent: int) -> float:
        """Milliseconds; NaN without a good answer."""
        if len(self.seconds) < 2:
            return 1000 * self.seconds[0] if self.seconds else math.nan
        return 1000 * statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def multipart(picture: bytes) -> bytes:
    """The body of `curl -F image=@picture`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n\r\n'
    return head.encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


def generator() -> str:
    """Who makes the load here: hey (a Go program, light on the cores it shares) or Python."""
    return "hey" if shutil.which("hey") else "python"


@dataclass(frozen=True, slots=True)
class Post:
    """A request to repeat: where to, what, and as which Content-Type."""

    url: str
    body: bytes
    media_type: str = FORM


def send_for(post: Post, concurrency: int, seconds: float) -> tuple[Answers, Answers]:
    """A short run, which warms up and tells the rate, and then about `seconds` of load."""
    first = send(post.url, post.body, concurrency, max(8, 2 * concurrency), post.media_type)
    requests = max(concurrency, 2, round(first.rate * seconds))
    return first, send(post.url, post.body, concurrency, requests, post.media_type)


def send(url: str, body: bytes, concurrency: int, requests: int, media_type: str = FORM) -> Answers:
    """`requests` POSTs of `body` over `concurrency` connections that are kept open."""
    requests = math.ceil(requests / concurrency) * concurrency
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body"
        file.write_bytes(body)
        make = _by_hey if generator() == "hey" else _by_python
        return make(url, file, concurrency, requests, media_type)


def _by_hey(url: str, body: Path, concurrency: int, requests: int, media_type: str = FORM) -> Answers:
    command = ["hey", "-n", str(requests), "-c", str(concurrency), "-m", "POST", "-T", media_type]
    output = subprocess.run([*command, "-D", str(body), "-o", "csv", url], check=True, capture_output=True)
    rows = list(csv.DictReader(io.StringIO(output.stdout.decode())))
    good = [float(row["response-time"]) for row in rows if row["status-code"] == "200"]
    # hey leaves failed connections out of its rows.
    wall = max((float(row["offset"]) + float(row["response-time"]) for row in rows), default=0.0)
    return Answers(good, requests - len(good), wall)


def _by_python(url: str, body: Path, concurrency: int, requests: int, media_type: str = FORM) -> Answers:
    command = [sys.executable, "-m", "benchmarks.load", url, str(body), str(concurrency), str(requests)]
    output = subprocess.run([*command, media_type], check=True, capture_output=True)
    return Answers(**json.loads(output.stdout))


def _hammer(url: str, body: bytes, concurrency: int, requests: int, media_type: str) -> Answers:
    """The load itself: one thread and one connection each, all starting together."""
    together = threading.Barrier(concurrency + 1)
    with ThreadPoolExecutor(concurrency) as pool:
        each = requests // concurrency
        jobs = [pool.submit(_client, url, body, each, media_type, together) for _ in range(concurrency)]
        together.wait()
        start = time.perf_counter()
        seconds = [taken for job in jobs for taken in job.result()]
        wall = time.perf_counter() - start
    good = [taken for taken in seconds if taken is not None]
    return Answers(good, len(seconds) - len(good), wall)


def _client(
    url: str, body: bytes, requests: int, media_type: str, together: threading.Barrier
) -> list[float | None]:
    """Seconds of each request, None for an error."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    together.wait()
    return [_post(connection, f"{parts.path}?{parts.query}", body, media_type) for _ in range(requests)]


def _post(connection: http.client.HTTPConnection, target: str, body: bytes, media_type: str) -> float | None:
    start = time.perf_counter()
    try:
        connection.request("POST", target, body, {"Content-Type": media_type})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return None
    return time.perf_counter() - start if response.status == http.client.OK else None


def main() -> None:
    """Called by `send` in a process of its own; prints the Answers as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("body", type=Path)
    parser.add_argument("concurrency", type=int)
    parser.add_argument("requests", type=int)
    parser.add_argument("media_type")
    options = parser.parse_args()
    body = options.body.read_bytes()
    answers = _hammer(options.url, body, options.concurrency, options.requests, options.media_type)
    json.dump({"seconds": answers.seconds, "errors": answers.errors, "wall_s": answers.wall_s}, sys.stdout)


if __name__ == "__main__":
    main()
