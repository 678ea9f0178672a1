"""POST /admin/reload: who may, what changes, what a broken bundle does, and photos in flight."""

from __future__ import annotations

import asyncio
import shutil
import threading
import weakref
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from faceswap import Swapper
from faceswap.errors import BundleError
from faceswap.faces import Pixels
from service.app import create_app
from service.settings import Settings
from tests import bundle_edits
from tests.service.fakes import FakeSwapper, Gate, make_app, opened, parts_of, photo, post, serving, until
from tests.service.sockets import connected
from tests.service.test_batch import batch
from tests.service.test_problems import expect

pytestmark = pytest.mark.anyio

KEY = "a key that nobody guesses"


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))


def real_app(bundle: Path) -> FastAPI:
    settings = Settings.model_validate({"bundle": bundle, "workers": 2, "admin_key": KEY})
    return create_app(settings, Swapper.open(bundle, "cpu", 1))


async def reload(client: httpx.AsyncClient, authorization: str = f"Bearer {KEY}") -> httpx.Response:
    return await client.post("/admin/reload", headers={"Authorization": authorization})


async def facts(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await reload(client)
    assert answer.status_code == 200, answer.text
    return {key: value for key, value in answer.json().items() if key not in ("created", "seconds")}


async def grey(client: httpx.AsyncClient, target: str = "echo", of: int = 40) -> int:
    """What a crop of one grey level comes out as."""
    answer = await post(client, photo(grey=of), target=target, crop="none")
    assert answer.status_code == 200, answer.text
    return int(np.asarray(opened(answer.content))[0, 0, 0])


async def test_without_a_key_admin_is_closed() -> None:
    async with serving(make_app()) as client:
        expect(await reload(client), "admin-closed", "FACESWAPD_ADMIN_KEY")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", f"Basic {KEY}", f"Bearer {KEY}x", "é ü"])
async def test_only_the_key_opens_it(authorization: str) -> None:
    swapper = FakeSwapper()
    async with serving(make_app(swapper, admin_key=KEY)) as client:
        refused = await client.post("/admin/reload", headers=[(b"authorization", authorization.encode())])
        expect(refused, "admin-key", "Authorization: Bearer")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await client.post("/admin/reload")).status_code == 401
        assert parts_of(client._transport.app).swapper is swapper  # type: ignore[attr-defined]
        assert (await reload(client, f"bearer {KEY}")).status_code == 200


def test_a_short_key_is_refused_an_empty_one_is_none() -> None:
    with pytest.raises(ValueError, match="16"):
        Settings.model_validate({"admin_key": "short"})
    assert Settings.model_validate({"admin_key": ""}).admin_key is None
    assert KEY not in repr(Settings.model_validate({"admin_key": KEY}))


def test_pinned_names_come_with_commas_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESWAPD_PINNED", "will, amara,")
    assert Settings().pinned == ("will", "amara")


async def test_identities_are_added_replaced_and_removed(bundle: Path) -> None:
    async with serving(real_app(bundle)) as client:
        assert (await grey(client), await grey(client, "cutout")) == (40, 40)
        bundle_edits.add(bundle, "mirror", like="negative")
        bundle_edits.redraw(bundle, "echo", like="negative")
        bundle_edits.remove(bundle, "cutout")
        assert await grey(client) == 40
        assert await facts(client) == {
            "bundle": "identity-network",
            "encoder_replaced": False,
            "added": ["mirror"],
            "replaced": ["echo"],
            "removed": ["cutout"],
            "unchanged": 1,
        }
        assert (await grey(client), await grey(client, "mirror")) == (215, 215)
        expect(await post(client, target="cutout"), "unknown-identity")
        names = (await client.get("/health")).json()["bundle"]["identities"]
    assert names == ["echo", "negative", "mirror"]


async def test_a_whole_other_bundle(bundle: Path) -> None:
    async with serving(real_app(bundle)) as client:
        assert await grey(client) == 40
        bundle_edits.rescale(bundle)
        told = await facts(client)
        assert (told["encoder_replaced"], told["replaced"]) == (True, ["cutout", "echo", "negative"])
        assert (await grey(client), await grey(client, "negative")) == (40, 215)


async def test_a_broken_bundle_is_refused_and_the_old_one_goes_on(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(real_app(bundle)) as client:
        bundle_edits.add(bundle, "mirror", like="negative")
        bundle_edits.ruin(bundle, "negative")
        expect(await reload(client), "reload-refused", "the old one goes on", "is no graph")
        assert (await grey(client), await grey(client, "negative")) == (40, 215)
        expect(await post(client, target="mirror"), "unknown-identity")
        (bundle / "manifest.json").write_text("{")
        expect(await reload(client), "reload-refused", "is no valid manifest")
        assert await grey(client) == 40
        assert (await client.get("/health/ready")).status_code == 200
    assert "the old one goes on" in caplog.text


async def test_after_a_refusal_the_mended_bundle_is_taken(bundle: Path) -> None:
    good = (bundle / "manifest.json").read_text()
    async with serving(real_app(bundle)) as client:
        bundle_edits.ruin(bundle, "echo")
        expect(await reload(client), "reload-refused")
        (bundle / "manifest.json").write_text(good)
        assert (await facts(client))["unchanged"] == 3


class Halves(FakeSwapper):
    """Its latents are `scale` times the crop, which its decoder undoes; those of another come out wrong."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.gate = Gate()

    def encode(self, crops: Pixels) -> Any:
        latents = super().encode(crops) * self.scale
        self.gate()
        return latents

    def decode_faces(self, latents: Any, identity: str) -> Any:
        return super().decode_faces(latents / self.scale, identity)


async def test_a_photo_in_flight_keeps_its_bundle_and_the_old_one_is_freed_after_it() -> None:
    old, new = Halves(0.5), Halves(2.0)
    old.on_reopen = lambda _: new
    new.gate.open()
    app = make_app(old, workers=2, admin_key=KEY)
    async with serving(app) as client:
        first = asyncio.create_task(grey(client))
        await old.gate.reached()
        assert (await reload(client)).status_code == 200
        assert parts_of(app).swapper is new
        assert new.took_over
        assert await grey(client) == 40
        assert not first.done()
        gate, gone = old.gate, weakref.ref(old)
        del old
        gate.open()
        assert await first == 40
        await until(lambda: gone() is None)


async def test_a_photo_that_waits_for_its_load_keeps_its_bundle() -> None:
    old, new = FakeSwapper(), FakeSwapper()
    gate, loaded = Gate(), threading.Event()
    old.decoders.cold.add("negative")
    old.on_load = gate
    old.on_reopen = lambda _: new
    old.on_decode = lambda *_: loaded.set()
    async with serving(make_app(old, admin_key=KEY)) as client:
        first = asyncio.create_task(grey(client, "negative"))
        await gate.reached()
        assert (await reload(client)).status_code == 200
        gate.open()
        assert await first == 215
    assert loaded.is_set()


async def test_all_of_a_batch_comes_from_the_bundle_it_began_with() -> None:
    old, new = FakeSwapper(), FakeSwapper()
    gate = Gate()
    decoded: list[str] = []
    old.on_find = gate
    old.on_decode = lambda *_: decoded.append("old")
    new.on_decode = lambda *_: decoded.append("new")
    old.on_reopen = lambda _: new
    app = make_app(old, admin_key=KEY, batch_share=1)
    async with serving(app) as client:
        task = asyncio.create_task(batch(client, [photo()] * 3))
        await gate.reached()
        assert (await reload(client)).status_code == 200
        gate.open()
        assert (await task).json()["summary"]["done"] == 3
        assert decoded == ["old"] * 3
        gone = weakref.ref(old)
        del old
        await until(lambda: gone() is None)


async def test_a_stream_follows_a_reload_and_lets_the_old_bundle_go() -> None:
    old, new = FakeSwapper(), FakeSwapper()
    decoded: list[str] = []
    old.on_decode = lambda *_: decoded.append("old")
    new.on_decode = lambda *_: decoded.append("new")
    old.on_reopen = lambda _: new
    app = make_app(old, admin_key=KEY)
    async with serving(app) as client, connected(app) as stream:
        for _ in range(2):
            stream.send(photo())
            await stream.report()
            await stream.picture()
            assert (await reload(client)).status_code == 200
            new.on_reopen = lambda _: new
        assert decoded == ["old", "new"]
        assert new.followed == 1, "the face is still followed"
        gone = weakref.ref(old)
        del old
        await until(lambda: gone() is None)


async def test_a_frame_for_a_removed_identity_is_told_and_the_stream_goes_on(bundle: Path) -> None:
    app = real_app(bundle)
    face = (Path(__file__).parents[2] / "examples" / "a.jpg").read_bytes()
    async with serving(app) as client, connected(app, "target=cutout") as stream:
        bundle_edits.remove(bundle, "cutout")
        await facts(client)
        stream.send(face)
        assert await stream.problem() == "unknown-identity"
        stream.send('{"target": "echo"}')
        stream.send(face)
        assert (await stream.report())["target"] == "echo"
        await stream.picture()


async def test_one_reload_at_a_time() -> None:
    swapper, gate = FakeSwapper(), Gate()

    def slow(_: Path) -> FakeSwapper:
        gate()
        return FakeSwapper()

    swapper.on_reopen = slow
    async with serving(make_app(swapper, admin_key=KEY)) as client:
        first = asyncio.create_task(reload(client))
        await gate.reached()
        expect(await reload(client), "reload-running")
        assert (await post(client)).status_code == 200
        gate.open()
        assert (await first).status_code == 200
        assert (await reload(client)).status_code == 200


async def test_a_bug_in_a_reload_is_a_500_and_the_next_one_may_come() -> None:
    swapper = FakeSwapper()

    def bug(_: Path) -> FakeSwapper:
        raise KeyError("a bug")

    swapper.on_reopen = bug
    async with serving(make_app(swapper, admin_key=KEY)) as client:
        expect(await reload(client), "internal-error")
        expect(await reload(client), "internal-error")


async def test_another_device_is_refused() -> None:
    swapper, other = FakeSwapper(), FakeSwapper()
    other.provider = "CUDAExecutionProvider"
    swapper.on_reopen = lambda _: other
    async with serving(make_app(swapper, admin_key=KEY)) as client:
        expect(await reload(client), "reload-refused", "CUDAExecutionProvider")
        assert not other.took_over


async def test_it_waits_for_the_start_and_not_for_the_end() -> None:
    swapper, gate = FakeSwapper(), Gate()
    swapper.on_warm_up = gate
    app = make_app(swapper, admin_key=KEY)
    async with serving(app, until_warm=False) as client:
        expect(await reload(client), "starting")
        gate.open()
        await until(lambda: parts_of(app).lifecycle.phase == "ready")
        parts_of(app).lifecycle.drain()
        expect(await reload(client), "draining")


async def test_a_signal_during_a_reload_makes_one_more_follow() -> None:
    gate = Gate()
    opened_folders: list[Path] = []

    def reopen(folder: Path) -> FakeSwapper:
        opened_folders.append(folder)
        gate()
        again = FakeSwapper()
        again.on_reopen = reopen
        return again

    swapper = FakeSwapper()
    swapper.on_reopen = reopen
    app = make_app(swapper)
    async with serving(app):
        reloader = parts_of(app).reloader
        reloader.on_signal()
        await gate.reached()
        for _ in range(3):
            reloader.on_signal()
        gate.open()
        await until(lambda: len(opened_folders) == 2)
        await asyncio.sleep(0.02)
    assert len(opened_folders) == 2


async def test_a_signal_that_fails_is_told_by_the_log(caplog: pytest.LogCaptureFixture) -> None:
    swapper = FakeSwapper()

    def fail(_: Path) -> FakeSwapper:
        raise BundleError("the manifest is gone")

    swapper.on_reopen = fail
    app = make_app(swapper)
    async with serving(app):
        parts_of(app).reloader.on_signal()
        await until(lambda: "the manifest is gone" in caplog.text)
        assert parts_of(app).swapper is swapper
