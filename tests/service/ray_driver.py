"""For test_ray_app: python -m tests.service.ray_driver BUNDLE scales the service out on a small Ray.

Two replicas serve; one is killed under load; the bundle, which is changed, is reloaded on both. Tells
what happened as a line of JSON.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.server import free_port
from tests import bundle_edits
from tests.service.fakes import opened, photo

CLIENTS, REQUESTS = 4, 40
REPLICA = b"ray::ServeReplica:faceswapd"


def swap(port: int, target: str = "echo") -> int | None:
    """What a crop of grey 40 comes out as; None if there was no picture."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        path = f"/swap?target={target}&crop=none"
        connection.request("POST", path, photo(grey=40), {"Content-Type": "image/png"})
        answer = connection.getresponse()
        data = answer.read()
        return int(np.asarray(opened(data))[0, 0, 0]) if answer.status == http.client.OK else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def replicas() -> list[int]:
    """Process ids, of this Ray only: all its processes are in our session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "cmdline").read_bytes().startswith(REPLICA):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def under_load(port: int, others: set[int]) -> dict[str, Any]:
    """A replica is killed once a third of the swaps are done; each swap is tried again once."""
    outcomes: Counter[str] = Counter()
    third = threading.Event()

    def client() -> None:
        for _ in range(REQUESTS):
            grey = swap(port)
            if grey is None:
                outcomes["again"] += 1
                grey = swap(port)
            outcomes["lost" if grey is None else "right" if grey == 40 else "wrong"] += 1
            if outcomes["right"] > CLIENTS * REQUESTS / 3:
                third.set()

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    third.wait(60)
    victim = next(number for number in replicas() if number not in others)
    os.kill(victim, signal.SIGKILL)
    for thread in threads:
        thread.join()
    return {"again": 0, "lost": 0, "wrong": 0, **outcomes, "killed": victim}


def until_there_are(count: int, others: set[int], seconds: float = 60.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if len(set(replicas()) - others) >= count:
            return True
        time.sleep(0.2)
    return False


def main(bundle: Path) -> None:
    port, others = free_port(), set(replicas())
    os.environ |= {
        "FACESWAPD_BUNDLE": str(bundle), "FACESWAPD_DEVICE": "cpu", "FACESWAPD_PORT": str(port),
        "FACESWAPD_RAY_MIN_REPLICAS": "2", "FACESWAPD_RAY_MAX_REPLICAS": "2", "FACESWAPD_RAY_CPUS": "0.5",
    }  # fmt: skip
    from service import ray_app
    from service.settings import Settings

    os.environ[ray_app.PROXY_CALLBACK] = "service.ray_app:in_the_proxy"
    ray_app.ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    try:
        ray_app.start(Settings())
        told: dict[str, Any] = {"replicas": len(set(replicas()) - others)}
        told["load"] = under_load(port, others)
        told["came_back"] = until_there_are(2, others)
        while len(ray_app.reload()) < 2:  # the new one is there, but not yet ready
            time.sleep(0.2)
        bundle_edits.redraw(bundle, "echo", like="negative")
        told["reloads"] = [answer.get("replaced") for answer in ray_app.reload()]
        told["after"] = sorted({swap(port) for _ in range(20)}, key=str)
        bundle_edits.ruin(bundle, "echo")
        told["refused"] = ["refused" in answer for answer in ray_app.reload()]
        told["at_last"] = sorted({swap(port) for _ in range(20)}, key=str)
        sys.stdout.write(json.dumps(told) + "\n")
    finally:
        ray_app.serve.shutdown()
        ray_app.ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
