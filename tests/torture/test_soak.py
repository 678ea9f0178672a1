"""Mixed traffic while decoders come and go and bundles are changed: no unexpected answer, memory at rest."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from statistics import fmean

import httpx
import numpy as np
import pytest

from benchmarks.server import HOST, Server, serving
from benchmarks.strain import EVERY_S, growth
from tests import bundle_edits
from tests.service.fakes import opened, photo
from tests.service.tensors import as_bytes, crops, tensors
from tests.torture.mutations import mutants
from tests.torture.sizes import Tally, sized

SECONDS = sized(2.5, 1800.0)
KEY = "a key that nobody guesses"
PEOPLE = 40
EXPECTED = {200, 400, 404, 413, 415, 422, 503}
"""What may come of a mutated photo, of an identity that was just removed, and of a full queue."""


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Path:
    """With many identities, none of whose decoders fit into memory together."""
    folder = Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))
    for number in range(PEOPLE):
        bundle_edits.add(folder, f"person-{number}", like=("echo", "negative")[number % 2])
        bundle_edits.fatten(folder, f"person-{number}", 200_000)
    return folder


class Traffic:
    """Clients that post until they are told to stop; `wrong` are answers that may not be."""

    def __init__(self, server: Server, examples: Path) -> None:
        self._client = httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=60)
        self._photos = [(examples / name).read_bytes() for name in ("a.jpg", "two.jpg")]
        self._over = threading.Event()
        self.answers = 0
        self.wrong: list[str] = []
        ways = (self.single, self.several, self.batch, self.tensors, self.broken, self.reload)
        self._threads = [threading.Thread(target=self._run, args=(way,)) for way in ways]

    def _run(self, way: object) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            try:
                way(number)  # type: ignore[operator]
            except (AssertionError, httpx.HTTPError) as error:
                self.wrong.append(f"{way}: {error!r}"[:500])
            self.answers += 1

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        time.sleep(seconds)
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._client.close()

    def _post(self, target: str, data: bytes, **query: str) -> httpx.Response:
        answer = self._client.post(
            "/swap", params={"target": target, **query}, content=data, headers={"Content-Type": "image/png"}
        )
        assert answer.status_code in EXPECTED, answer.text
        return answer

    def single(self, number: int) -> None:
        name, grey = f"person-{number % PEOPLE}", number % 200
        answer = self._post(name, photo(grey=grey), crop="none")
        if answer.status_code == 200:
            right = {grey, 255 - grey}  # the bundles differ in who is whose negative
            assert set(np.unique(np.asarray(opened(answer.content)))) <= right

    def several(self, number: int) -> None:
        names = ",".join(f"person-{(number + step) % PEOPLE}" for step in range(8))
        self._post(names, self._photos[number % 2], output="photo", format="jpeg")

    def batch(self, number: int) -> None:
        files = [("image", ("a.jpg", data, "image/jpeg")) for data in self._photos]
        answer = self._client.post(f"/swap/batch?target=person-{number % PEOPLE}", files=files)
        assert answer.status_code in EXPECTED, answer.text

    def tensors(self, number: int) -> None:
        given = crops(4, seed=number)
        body, headers = as_bytes(given)
        answer = self._client.post("/v2/models/echo/infer", content=body, headers=headers)
        assert answer.status_code in EXPECTED, answer.text
        if answer.status_code == 200:
            assert np.array_equal(tensors(answer)["faces"], given)

    def broken(self, number: int) -> None:
        for data in mutants(self._photos, 4, seed=number):
            self._post("echo", data)

    def reload(self, _: int) -> None:
        time.sleep(0.5)
        answer = self._client.post("/admin/reload", headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200, answer.text


def course(samples: list[tuple[float, float]], parts: int = 6) -> dict[str, float]:
    """The mean of each part of the time, in MiB: whether memory comes to rest, or how fast it grows."""
    size = len(samples) // parts
    if not size:
        return {}
    means = [fmean(mib for _, mib in samples[start : start + size]) for start in range(0, size * parts, size)]
    return {f"mean_mib_{number}_of_{parts}": round(mean, 1) for number, mean in enumerate(means, 1)}


def test_soak(bundle: Path, examples: Path, tmp_path: Path, tally: Tally) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    bundle_edits.rescale(other)
    link = tmp_path / "served"
    link.symlink_to(bundle)
    more = {"FACESWAPD_ADMIN_KEY": KEY, "FACESWAPD_DECODER_MEMORY_MIB": "1", "FACESWAPD_LOG_LEVEL": "error"}
    samples: list[tuple[float, float]] = []
    over = threading.Event()
    with serving(link, "cpu", more=more) as server:
        started = time.perf_counter()

        def watch() -> None:
            folders = [other, bundle]
            while not over.wait(EVERY_S):
                if (mib := server.memory_mib()) is not None:
                    samples.append((time.perf_counter() - started, mib))
                fresh = link.with_suffix(".new")
                fresh.symlink_to(folders[len(samples) % 2])
                fresh.rename(link)

        watcher = threading.Thread(target=watch)
        watcher.start()
        traffic = Traffic(server, examples)
        try:
            traffic.run(SECONDS)
        finally:
            over.set()
            watcher.join()
        health = httpx.get(f"http://{HOST}:{server.port}/health", timeout=30).json()
    assert traffic.wrong == []
    assert (health["photos"], health["dead_workers"]) == (0, [])
    assert len(health["decoders"]["loaded"]) < PEOPLE / 2, "decoders must have come and gone"
    told = growth(samples) | course(samples)
    tally.note("soak", seconds=SECONDS, answers=traffic.answers, unexpected=len(traffic.wrong), **told)
