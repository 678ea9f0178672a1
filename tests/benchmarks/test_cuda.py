"""The benchmark of the CUDA path, whose logic runs on a card that is not there."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import cuda
from benchmarks.card import card
from benchmarks.cuda import VARIANTS, Bench, Variant, batch_of, goals, text
from benchmarks.pictures import ready_crop
from benchmarks.server import Server, serving
from faceswap import Swapper
from faceswap.bundle import Bundle
from faceswap.detection import LibFaceDetection
from faceswap.errors import BundleError, DeviceError
from faceswap.sessions import SessionFactory
from tests.faceswap.computing_on_cuda import ComputingOnCuda


def options(bundle: Path, **more: object) -> argparse.Namespace:
    given = {"bundle": bundle, "rounds": 1, "seconds": 0.01, "max_batch": 4, "concurrency": [1, 2]}
    given["photos"] = 3
    return argparse.Namespace(**given | more)


class Card:
    """Opens variants on the fake card: the identity bundle has no fp16 graphs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[str] = []
        self.served: list[dict[str, str]] = []

    def open(self, variant: Variant) -> Swapper:
        self.opened.append(variant.name)
        factory = SessionFactory("cuda", 1, ComputingOnCuda(self.folder), variant.options(4), lambda: None)
        return Swapper(Bundle.open(self.folder), factory, LibFaceDetection(), variant.precision)

    @contextmanager
    def serve(self, variant: Variant) -> Iterator[Server]:
        self.served.append(variant.variables())
        with serving(self.folder, "cpu") as server:
            yield server

    def bench(self) -> Bench:
        return Bench(options(self.folder), "echo", self.open, self.serve)


def test_there_is_a_variant_of_every_kind() -> None:
    assert len(set(VARIANTS)) == len({variant.name for variant in VARIANTS}) == 8
    assert VARIANTS[0].name == "fp16"
    assert Variant("fp32", True, True).name == "fp32, CUDA graphs, channels last"
    assert Variant("fp16", graphs=True).variables() == {
        "FACESWAPD_PRECISION": "fp16",
        "FACESWAPD_CUDA_GRAPHS": "True",
        "FACESWAPD_CUDA_CHANNELS_LAST": "False",
    }


def test_every_size_of_every_variant_that_there_is(identity_bundle: Path) -> None:
    machine = Card(identity_bundle)
    bench = machine.bench()
    bench.bare([Variant("fp32"), Variant("fp16"), Variant("fp32", graphs=True)])
    assert machine.opened == ["fp32", "fp16", "fp32, CUDA graphs"]
    assert list(bench.failed) == ["fp16"]
    assert "no fp16 graph" in bench.failed["fp16"]
    for found in bench.measured.values():
        assert list(found.faces_per_s) == list(found.encoder_ms) == [1, 2, 4]
        assert all(rate > 0 for rates in found.faces_per_s.values() for rate in rates)
    bench.measured[Variant("fp32", graphs=True)].faces_per_s[4] = [1e9]
    assert bench.best == Variant("fp32", graphs=True)


@pytest.mark.slow
def test_over_http_the_best_stands_beside_plain_fp32(identity_bundle: Path) -> None:
    machine = Card(identity_bundle)
    bench = machine.bench()
    bench.bare([Variant("fp32"), Variant("fp32", graphs=True)])
    bench.measured[Variant("fp32", graphs=True)].faces_per_s[4] = [1e9]
    bench.http(ready_crop(machine.open(Variant("fp32")), "echo"))
    assert [served["FACESWAPD_CUDA_GRAPHS"] for served in machine.served] == ["True", "False"]
    report = json.loads(json.dumps(bench.report()))
    rows = [row for row in report["rows"] if row["kind"] == "service"]
    assert [row["concurrency"] for row in rows] == [1, 2, 1, 2]
    assert all(row["swaps_per_s"] > 0 and row["errors"] == 0 for row in rows)
    assert all(rate > 0 for rate in report["batch_faces_per_s"].values())
    assert report["best"] == "fp32, CUDA graphs"
    assert report["variants"][0]["ready_s"] > 0
    shown = text(report)
    assert "over HTTP" in shown
    assert "faces/s of batches" in shown
    assert "/" not in str(report["card"]["name"])


def test_without_cuda_it_refuses_in_one_line(
    identity_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cuda.main(["--bundle", str(identity_bundle), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("benchmarks.cuda: ")
    assert "CUDA" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_card_that_fails_later_loses_its_variant_only(identity_bundle: Path) -> None:
    machine = Card(identity_bundle)

    def opened(variant: Variant) -> Swapper:
        if variant.graphs:
            raise DeviceError("no memory")
        return machine.open(variant)

    bench = Bench(options(identity_bundle), "echo", opened, machine.serve)
    bench.bare([Variant("fp32"), Variant("fp32", graphs=True)])
    assert bench.failed == {"fp32, CUDA graphs": "no memory"}
    with pytest.raises(DeviceError):
        Bench(options(identity_bundle), "echo", opened, machine.serve).bare([Variant("fp32", graphs=True)])


def test_a_damaged_bundle_is_named(identity_bundle: Path) -> None:
    def broken(variant: Variant) -> Swapper:
        raise BundleError(f"{variant.name} is damaged")

    bench = Bench(options(identity_bundle), "echo", broken, Card(identity_bundle).serve)
    with pytest.raises(RuntimeError, match="nothing could be measured: fp32 is damaged"):
        bench.bare([Variant("fp32")])


def test_goals_take_the_best_variants_rows() -> None:
    def row(name: str, concurrency: int, rate: float, p50: float) -> dict[str, object]:
        return {
            "kind": "service",
            "name": f"64 px crop, {name}",
            "concurrency": concurrency,
            "swaps_per_s": rate,
            "p50_ms": p50,
        }

    rows = [row("fp16", 1, 400, 2.5), row("fp16", 32, 5200, 6.0), row("fp32", 32, 9000, 1.0)]
    report = {"best": "fp16", "rows": rows, "batch_faces_per_s": {"fp16": 19_000.0}}
    found = {goal.name: (goal.figure, goal.verdict.value) for goal in goals(report)}
    assert found == {
        "HTTP swaps/s, 64 px photos": (5200, "reached"),
        "p50 of one client": (2.5, "reached"),
        "faces/s of batches": (19_000.0, "not reached"),
    }


def test_a_batch_is_a_form_of_many_files() -> None:
    body = batch_of(b"PICTURE", 3)
    assert body.count(b"PICTURE\r\n") == body.count(b'name="image"') == 3
    assert body.endswith(b"--faceswapd-benchmark--\r\n")


def test_the_card_is_told_by_its_driver() -> None:
    def ask(arguments: Sequence[str]) -> str:
        assert arguments[-1] == "--format=csv,noheader"
        return "NVIDIA H100 80GB HBM3, 580.65.06, 81559 MiB, 9.0, 700.00 W\n" * 2

    assert card(ask) == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver_version": "580.65.06",
        "memory.total": "81559 MiB",
        "compute_cap": "9.0",
        "power.limit": "700.00 W",
        "cards": 2,
    }

    def missing(arguments: Sequence[str]) -> str:
        raise subprocess.SubprocessError(str(arguments))

    assert set(card(missing).values()) == {None}
