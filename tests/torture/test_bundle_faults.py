"""A damaged bundle: the start is refused with the reason, or the old one goes on. Never a wrong face."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from benchmarks.server import HOST, Server, serving
from faceswap import Swapper
from faceswap.bundle import Bundle
from faceswap.errors import BundleError
from service.app import create_app
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import opened, photo, post
from tests.torture.sizes import Tally, sized

KEY = "a key that nobody guesses"
RIGHT = {"echo": 40, "negative": 215, "cutout": 40}

Fault = Callable[[Path], None]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def deleted(path: Path) -> None:
    path.unlink()


def unreadable(path: Path) -> None:
    """A folder, as root reads any file."""
    path.unlink()
    path.mkdir()


def swapped(path: Path) -> None:
    """With another file of the same kind."""
    others = [other for other in path.parent.iterdir() if other.is_file() and other != path]
    other = next(
        iter(sorted(others, key=lambda each: each.suffix != path.suffix)),
        path.parent.parent / "manifest.json",
    )
    data = other.read_bytes()
    other.write_bytes(path.read_bytes())
    path.write_bytes(data)


def replaced(path: Path) -> None:
    """By one of the same size, in one step as a careful copy does it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(bytes(len(path.read_bytes())))
    fresh.rename(path)


FAULTS: list[Fault] = [truncated, emptied, flipped, deleted, unreadable, swapped, replaced]


@pytest.fixture
def bundle(identity_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(identity_bundle, tmp_path / "bundle"))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_start_is_refused_with_the_reason(
    fault: Fault, identity_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    for number, name in enumerate(files(identity_bundle)):
        folder = Path(shutil.copytree(identity_bundle, tmp_path / str(number)))
        fault(folder / name)
        with pytest.raises(BundleError) as refused:
            Swapper.open(folder, "cpu", 1)
        text = str(refused.value)
        assert "\n" not in text and str(folder) in text
        tally.note("bundle damaged before the start", faults=1, refused=1)


def test_every_bit_counts(identity_bundle: Path, bundle: Path, tally: Tally) -> None:
    """Of the graphs: any flipped bit is seen, and the untouched file is taken again."""
    known = Bundle.open(bundle)
    random = np.random.default_rng(0)
    for name in [name for name in files(identity_bundle) if name != "manifest.json"]:
        good = (bundle / name).read_bytes()
        for bit in random.integers(0, 8 * len(good), sized(5, 2000)):
            data = bytearray(good)
            data[bit // 8] ^= 1 << (bit % 8)
            (bundle / name).write_bytes(data)
            with pytest.raises(BundleError, match=r"damaged|sha256"):
                Bundle.open(bundle, checked=known)
            tally.note("bundle: single bits flipped", faults=1, refused=1)
        (bundle / name).write_bytes(good)
    Bundle.open(bundle)


def real_app(bundle: Path) -> FastAPI:
    settings = Settings.model_validate({"bundle": bundle, "workers": 1, "admin_key": KEY})
    return create_app(settings, Swapper.open(bundle, "cpu", 1))


async def grey(client: httpx.AsyncClient, target: str) -> int | str:
    """What a crop of grey 40 comes out as, or the problem's type."""
    answer = await post(client, photo(grey=40), target=target, crop="none")
    if answer.status_code != 200:
        return str(answer.json()["type"])
    shades = np.unique(np.asarray(opened(answer.content)))
    assert len(shades) == 1
    return int(shades[0])


@pytest.mark.anyio
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_running_service_never_draws_a_wrong_face(
    fault: Fault, warm: bool, identity_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """Every file in turn (in small every second one), and a reload is refused.

    Decoders in memory go on; a cold one is a 500 that says so.
    """
    for number, name in enumerate(files(identity_bundle)[:: sized(2, 1)]):
        folder = Path(shutil.copytree(identity_bundle, tmp_path / str(number)))
        async with fakes.serving(real_app(folder)) as client:
            for target in RIGHT if warm else ():
                assert await grey(client, target) == RIGHT[target]
            fault(folder / name)
            for target in RIGHT:
                assert await grey(client, target) in (
                    RIGHT[target],
                    *(() if warm else ("/problems/bundle-unusable",)),
                )
            refused = await client.post("/admin/reload", headers={"Authorization": f"Bearer {KEY}"})
            assert refused.json()["type"] == "/problems/reload-refused"
            for target in RIGHT if warm else ():
                assert await grey(client, target) == RIGHT[target]
            assert (await client.get("/health/live")).status_code == 200
            preview = await client.get("/identities/echo/preview")
            assert preview.status_code == 200 or preview.json()["type"] == "/problems/bundle-unusable"
        tally.note("bundle damaged during service", faults=1, reloads_refused=1)


def test_a_manifest_that_names_another_decoder_for_an_identity_is_still_checked(bundle: Path) -> None:
    """Two decoders swapped in the folder, with the sizes that the manifest says."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    echo, negative = (bundle / entry["decoder"]["path"] for entry in manifest["identities"][:2])
    data = echo.read_bytes()
    echo.write_bytes(negative.read_bytes())
    negative.write_bytes(data)
    with pytest.raises(BundleError, match=r"manifest says"):
        Bundle.open(bundle)


def _client(server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"http://{HOST}:{server.port}", timeout=60)


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
import runpy
runpy.run_module("service", run_name="__main__")
"""
"""A service to which every write to a file fails, as on a full or a read-only disk."""


def test_a_full_disk_changes_nothing(bundle: Path, tally: Tally) -> None:
    for path in [bundle, *bundle.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in bundle.rglob("*")}
    with (
        serving(bundle, "cpu", ("-c", FULL_DISK)) as server,
        httpx.Client(base_url=f"http://{HOST}:{server.port}") as client,
    ):
        for target, right in RIGHT.items():
            for output in ("face", "photo"):
                answer = client.post(
                    f"/swap?target={target}&crop=none&output={output}",
                    content=photo(grey=40),
                    headers={"Content-Type": "image/png"},
                )
                assert answer.status_code == 200
                if output == "face":
                    assert np.asarray(opened(answer.content))[0, 0, 0] == right
        large = client.post("/swap?target=echo", files={"image": ("a.jpg", bytes(5_000_000))})
        assert large.status_code == 415, "a form of 5 MB is read in memory"
        assert client.get("/health/ready").status_code == 200
    assert {path: path.stat().st_mtime_ns for path in bundle.rglob("*")} == before
    tally.note("full and read-only disk", swaps=2 * len(RIGHT))


WRITE = "import pathlib; pathlib.Path('{}').write_bytes(b'x')"


def test_the_limit_that_stands_for_a_full_disk_works(tmp_path: Path) -> None:
    code = FULL_DISK.partition("import runpy")[0] + WRITE.format(tmp_path / "x")
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode != 0 and "File too large" in child.stderr
