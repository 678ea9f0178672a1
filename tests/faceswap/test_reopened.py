"""Swapper.reopened: what the folder holds now, what is shared, what is refused, what stays behind."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
import pytest

from faceswap import BundleError, Image, Precision, Swapper
from faceswap.bundle import Bundle
from faceswap.decoders import DecoderBank
from faceswap.session_cache import SessionCache
from faceswap.sessions import Session, SessionFactory
from faceswap.signatures import Signature
from tests import bundle_edits
from tests.faceswap.conftest import Edit
from tests.faceswap.test_precisions import variants_of

CROPS = np.full((1, 64, 64, 3), 40, np.uint8)


class CountingFactory(SessionFactory):
    """Notes what it opens. Copies of it share the notes."""

    def __init__(self) -> None:
        super().__init__("cpu", 1)
        self.opened: list[str] = []

    def open(
        self,
        graph: bytes,
        name: str,
        signature: Signature | None = None,
        weights: tuple[str, bytes] | None = None,
    ) -> Session:
        self.opened.append(name.partition("-")[0])
        return super().open(graph, name, signature, weights)


class NoDetector:
    def detect(self, image: Image, at_least: int = 1) -> list[object]:
        raise AssertionError(f"no face is looked for here: {image}, {at_least}")

    refine = detect


@pytest.fixture
def factory() -> CountingFactory:
    return CountingFactory()


@pytest.fixture
def first(bundle: Path, factory: CountingFactory) -> Swapper:
    swapper = Swapper(Bundle.open(bundle), factory, NoDetector(), cache=SessionCache())  # type: ignore[arg-type]
    swapper.take_over()
    return swapper


def grey(swapper: Swapper, identity: str) -> int:
    """What a crop of grey level 40 comes out as."""
    return int(swapper.decode(swapper.encode(CROPS), identity)[0, 0, 0, 0])


def test_nothing_is_loaded_twice(first: Swapper, bundle: Path, factory: CountingFactory) -> None:
    first.load("echo")
    second = first.reopened(bundle)
    assert (grey(second, "echo"), factory.opened) == (40, ["encoder", "decoders/echo"])


def test_an_added_identity_can_be_swapped_in_and_the_old_one_does_not_know_it(
    first: Swapper, bundle: Path
) -> None:
    bundle_edits.add(bundle, "mirror", like="negative")
    second = first.reopened(bundle)
    assert grey(second, "mirror") == 215
    assert "mirror" not in first.identities


def test_a_replaced_identity_is_warm_if_it_was_and_each_swapper_draws_its_own(
    first: Swapper, bundle: Path
) -> None:
    assert grey(first, "echo") == 40
    bundle_edits.redraw(bundle, "echo", like="negative")
    bundle_edits.rescale(bundle)
    second = first.reopened(bundle)
    assert "echo" in second.decoders.loaded
    assert (grey(first, "echo"), grey(second, "echo")) == (40, 215)


def test_latents_of_one_encoder_are_wrong_for_the_decoders_of_the_other(first: Swapper, bundle: Path) -> None:
    """So that tests with `rescale` can fail."""
    bundle_edits.rescale(bundle)
    second = first.reopened(bundle)
    mixed = second.decode(first.encode(CROPS), "echo")[0, 0, 0, 0]
    assert (grey(first, "echo"), grey(second, "echo"), mixed) == (40, 40, 80)


def test_every_new_graph_is_tried_but_only_what_was_warm_stays_loaded(
    first: Swapper, bundle: Path, factory: CountingFactory
) -> None:
    first.load("echo")
    bundle_edits.rescale(bundle)
    second = first.reopened(bundle)
    assert factory.opened[2:] == ["rescaled"] * 4, "the encoder and three decoders"
    assert second.decoders.loaded == ["echo"]


def test_a_removed_identity_goes_when_its_last_holder_has_gone(first: Swapper, bundle: Path) -> None:
    first.load("negative")
    taken = first.decoders.bytes
    with first.hold("negative"):
        bundle_edits.remove(bundle, "negative")
        second = first.reopened(bundle)
        second.take_over()
        assert grey(first, "negative") == 215
        assert first.decoders.bytes == taken
    assert first.decoders.bytes == 0


@pytest.mark.parametrize("name", ["echo", "negative"])
def test_a_decoder_that_is_no_graph_is_refused_and_nothing_changes(
    first: Swapper, bundle: Path, name: str
) -> None:
    first.load("echo")
    taken = first.decoders.bytes
    bundle_edits.rescale(bundle)
    bundle_edits.ruin(bundle, name)
    with pytest.raises(BundleError, match="is no graph that onnxruntime can run"):
        first.reopened(bundle)
    assert (first.decoders.loaded, first.decoders.bytes) == (["echo"], taken)
    assert grey(first, "echo") == 40


def test_a_file_that_does_not_fit_its_sha256_is_refused(first: Swapper, bundle: Path) -> None:
    file = next((bundle / "decoders").glob("negative*"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="is damaged"):
        first.reopened(bundle)


def test_a_checked_file_is_not_read_again_until_it_is_written_to(bundle: Path) -> None:
    first = Bundle.open(bundle)
    file = next((bundle / "decoders").glob("negative*"))
    state = file.stat()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))  # even where its time was set back
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.open(bundle, checked=first)


def test_a_pinned_identity_is_loaded_and_must_be_there(bundle: Path) -> None:
    swapper = Swapper.open(bundle, "cpu", 1, decoder_bytes=1, pinned=["echo"])
    swapper.warm_up()
    swapper.load("negative")
    assert swapper.decoders.loaded == ["echo", "negative"]
    swapper.load("cutout")
    assert swapper.decoders.loaded == ["cutout", "echo"]
    bundle_edits.remove(bundle, "echo")
    with pytest.raises(BundleError, match="'echo' is pinned"):
        swapper.reopened(bundle)
    with pytest.raises(BundleError, match="'echo' is pinned"):
        Swapper.open(bundle, "cpu", 1, pinned=["echo"])


def test_a_link_may_be_turned_while_the_old_folder_goes_on(bundle: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    bundle_edits.remove(other, "cutout")
    bundle_edits.rescale(other)
    link = tmp_path / "link"
    link.symlink_to(bundle)
    first = Swapper.open(link, "cpu", 1)
    link.unlink()
    link.symlink_to(other)
    assert grey(first, "cutout") == 40, "its file is not where the link leads now"
    assert grey(first.reopened(link), "echo") == 40


def test_a_replaced_swapper_is_freed_without_waiting_for_the_collector(bundle: Path) -> None:
    old = Swapper.open(bundle, "cpu", 1)
    old.load("echo")
    second, gone = old.reopened(bundle), weakref.ref(old)
    second.take_over()
    del old
    assert gone() is None


def test_sessions_do_not_keep_their_file_in_memory(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    graph = opened.read(opened.manifest.encoder.graph)
    session = SessionFactory("cpu", 1).open(graph, "encoder")
    inner = vars(session)["_session"]
    assert not [name for name, value in vars(inner).items() if value is graph]


def test_the_precision_that_was_asked_for_stays(
    bundle: Path, factory: CountingFactory, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(variants_of)  # echo's variant draws the negative
    for asked, drawn in ((Precision.FP32, 40), (Precision.INT8, 215)):
        first = Swapper(Bundle.open(bundle), factory, NoDetector(), asked)  # type: ignore[arg-type]
        assert grey(first, "echo") == drawn
        factory.opened.clear()
        second = first.reopened(bundle)
        assert (second.precision, grey(second, "echo"), factory.opened) == (asked, drawn, [])


def test_a_variant_that_no_longer_passes_is_left_by_the_new_one_alone(
    bundle: Path, factory: CountingFactory, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(variants_of)
    first = Swapper(Bundle.open(bundle), factory, NoDetector())  # type: ignore[arg-type]
    assert grey(first, "echo") == 215
    edit_manifest(lambda manifest: variants_of(manifest, ssim=0.5))
    second = first.reopened(bundle)
    assert "echo" in second.decoders.loaded, "it was warm"
    assert (grey(first, "echo"), grey(second, "echo")) == (215, 40)
    assert (first.precision, second.precision) == (Precision.INT8, Precision.FP32)


def test_a_bundle_without_the_precision_that_was_asked_for_is_refused(
    bundle: Path, factory: CountingFactory, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(variants_of)
    first = Swapper(Bundle.open(bundle), factory, NoDetector(), "int8")  # type: ignore[arg-type]
    edit_manifest(lambda manifest: manifest["identities"][0].pop("variants"))
    with pytest.raises(BundleError, match="no int8 graph"):
        first.reopened(bundle)
    assert grey(first, "echo") == 215


def test_the_cache_is_told_what_a_variant_keeps_of_both_files(
    bundle: Path, factory: CountingFactory, edit_manifest: Callable[[Edit], None]
) -> None:
    edit_manifest(variants_of)
    sizes: list[int] = []

    class Noting(SessionCache):
        def get(self, key: Hashable, file_bytes: int, load: Callable[[], Session]) -> Session:
            sizes.append(file_bytes)
            return super().get(key, file_bytes, load)

    opened = Bundle.open(bundle)
    for precision in (Precision.FP32, Precision.INT8):
        DecoderBank(opened, factory, precision, Noting()).get("echo")
    entry = opened.identity("echo")
    assert sizes == [entry.decoder.bytes, entry.decoder.bytes // 2 + entry.variants["int8"].graph.bytes]
