"""Cold identities: loaded once, off the workers, held meanwhile, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from faceswap.errors import BundleError
from service.loading import Loader
from service.telemetry import Clock
from tests.service.fakes import FakeSwapper, Gate, make_app, parts_of, photo, post, serving, until
from tests.service.sockets import connected
from tests.service.test_batch import batch
from tests.service.test_problems import expect
from tests.service.test_several import ask as ask_several
from tests.service.test_several import results

pytestmark = pytest.mark.anyio


class Cold(FakeSwapper):
    """`negative` is not loaded, and loading it waits at the gate; notes the threads that load."""

    def __init__(self) -> None:
        super().__init__()
        self.decoders.cold.add("negative")
        self.gate = Gate()
        self.threads: list[str] = []
        self.on_load = self._loading

    def _loading(self, _: str) -> None:
        self.threads.append(threading.current_thread().name)
        self.gate()


async def test_the_others_do_not_wait_for_a_cold_identity() -> None:
    swapper = Cold()
    async with serving(make_app(swapper, workers=1, image_threads=1)) as client:
        cold = asyncio.create_task(post(client, target="negative"))
        await swapper.gate.reached()
        for _ in range(3):
            assert (await post(client)).status_code == 200
        assert not cold.done()
        swapper.gate.open()
        answer = await cold
    assert answer.status_code == 200
    assert "load;dur=" in answer.headers["server-timing"]
    assert [name.startswith("decoders") for name in swapper.threads] == [True]


async def test_a_warm_identity_has_nothing_to_load() -> None:
    async with serving(make_app()) as client:
        assert "load" not in (await post(client)).headers["server-timing"]


async def test_many_who_want_it_load_it_once() -> None:
    swapper = Cold()
    app = make_app(swapper)
    async with serving(app) as client:
        tasks = [asyncio.create_task(post(client, target="negative")) for _ in range(5)]
        await until(lambda: len(swapper.held) == 5)
        await swapper.gate.reached()
        swapper.gate.open()
        assert {(await task).status_code for task in tasks} == {200}
    assert len(swapper.threads) == 1
    assert swapper.held == []


async def test_a_target_is_held_from_before_it_is_loaded_until_the_answer() -> None:
    swapper = Cold()
    held: list[list[str]] = []
    swapper.on_decode = lambda *_: held.append(list(swapper.held))
    async with serving(make_app(swapper)) as client:
        task = asyncio.create_task(post(client, target="negative"))
        await swapper.gate.reached()
        assert swapper.held == ["negative"]
        swapper.gate.open()
        await task
    assert (held, swapper.held) == ([["negative"]], [])


async def test_a_load_that_fails_fails_only_those_who_asked() -> None:
    swapper = Cold()

    def fail(_: str) -> None:
        raise BundleError("the decoder is damaged")

    swapper.on_load = fail
    async with serving(make_app(swapper)) as client:
        broken, good = await asyncio.gather(post(client, target="negative"), post(client))
        expect(broken, "bundle-unusable")
        assert good.status_code == 200
        swapper.on_load = lambda _: None
        assert (await post(client, target="negative")).status_code == 200, "it is tried anew"
    assert swapper.held == []


async def test_a_load_that_takes_too_long_is_a_deadline() -> None:
    swapper = Cold()
    async with serving(make_app(swapper, deadline_ms=100)) as client:
        expect(await post(client, target="negative"), "deadline")
        assert swapper.held == []
        swapper.gate.open()


async def test_a_photo_that_cannot_be_swapped_loads_nothing() -> None:
    swapper = Cold()
    async with serving(make_app(swapper)) as client:
        expect(await post(client, photo(grey=0), target="negative"), "no-face")
    assert swapper.threads == []


async def test_a_load_that_nobody_waits_for_any_more_is_dropped_before_its_turn() -> None:
    swapper, loader = Cold(), Loader(1)
    swapper.decoders.cold.add("echo")
    first = asyncio.create_task(loader.warm(swapper, "negative", Clock()))
    await swapper.gate.reached()
    waiting = [asyncio.create_task(loader.warm(swapper, "echo", Clock())) for _ in range(2)]
    await asyncio.sleep(0.01)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    swapper.gate.open()
    await first
    loader.stop()
    assert len(swapper.threads) == 1
    assert not swapper.is_loaded("echo")


async def test_a_load_goes_on_while_one_of_its_waiters_is_left() -> None:
    swapper, loader = Cold(), Loader(1)
    stays, leaves = [asyncio.create_task(loader.warm(swapper, "negative", Clock())) for _ in range(2)]
    await swapper.gate.reached()
    leaves.cancel()
    await asyncio.gather(leaves, return_exceptions=True)
    swapper.gate.open()
    await stays
    loader.stop()
    assert swapper.is_loaded("negative")


async def test_health_tells_what_is_loaded() -> None:
    swapper = Cold()
    app = make_app(swapper)
    async with serving(app) as client:
        facts = (await client.get("/health")).json()
    assert parts_of(app).swapper is swapper
    assert facts["decoders"] == {"loaded": ["echo"], "pinned": [], "memory_mib": 3.0, "limit_mib": None}
    assert facts["memory_mib"] is None or facts["memory_mib"] > 1


async def test_a_cold_target_is_loaded_before_the_one_encoding_for_all() -> None:
    swapper = Cold()
    encoded: list[tuple[int, list[str]]] = []
    swapper.on_encode = lambda crops: encoded.append((len(crops), sorted(swapper.held)))
    async with serving(make_app(swapper)) as client:
        task = asyncio.create_task(ask_several(client, "target=echo,negative"))
        await swapper.gate.reached()
        assert encoded == []
        swapper.gate.open()
        echo, negative = results(await task)
    assert (echo["status"], negative["status"]) == (200, 200)
    assert "load" in negative["milliseconds"] and "load" not in echo["milliseconds"]
    assert encoded == [(1, ["echo", "negative"])]
    assert swapper.held == []


async def test_a_target_that_cannot_be_loaded_fails_alone() -> None:
    swapper = Cold()

    def fail(_: str) -> None:
        raise BundleError("the decoder is damaged")

    swapper.on_load = fail
    async with serving(make_app(swapper)) as client:
        negative, echo = results(await ask_several(client, "target=negative,echo"))
        (alone,) = results(await batch(client, [photo()], "negative"))
    assert (negative["status"], echo["status"]) == (500, 200)
    assert negative["problem"]["type"] == alone["problem"]["type"] == "/problems/bundle-unusable"
    assert swapper.held == []


async def test_a_load_that_hangs_makes_the_other_targets_of_its_photo_not_late() -> None:
    swapper = Cold()
    async with serving(make_app(swapper, deadline_ms=3000)) as client:
        echo, negative = results(await ask_several(client, "target=echo,negative"))
        swapper.gate.open()
    assert (echo["status"], negative["problem"]["type"]) == (200, "/problems/deadline")


class Watched(FakeSwapper):
    """Counts how often nobody holds a decoder any more."""

    let_go = 0

    @contextmanager
    def hold(self, identity: str) -> Iterator[None]:
        with super().hold(identity):
            yield
        self.let_go += not self.held


async def test_the_decoders_of_a_batch_are_held_until_its_last_photo() -> None:
    swapper = Watched()
    held: list[set[str]] = []
    swapper.on_find = lambda: held.append(set(swapper.held))
    async with serving(make_app(swapper, batch_share=1)) as client:
        answer = await batch(client, [photo()] * 3, "echo,negative")
    assert answer.json()["summary"]["done"] == 6
    assert (held, swapper.let_go) == ([{"echo", "negative"}] * 3, 1)


async def test_the_frame_of_a_cold_identity_waits_and_is_held() -> None:
    swapper = Cold()
    held: list[list[str]] = []
    swapper.on_decode = lambda *_: held.append(list(swapper.held))
    app = make_app(swapper, workers=1)
    async with serving(app) as client, connected(app, "target=negative") as stream:
        stream.send(photo())
        await swapper.gate.reached()
        assert (await post(client)).status_code == 200, "no worker waits for it"
        swapper.gate.open()
        assert "load" in (await stream.report())["milliseconds"]
        await stream.picture()
    assert (held[1:], swapper.held) == ([["negative"]], [])
