"""Judging many faces: the cache saves work and may be lost, processes give the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceswap.faces import Pixels
from models.embeddings import MIN_SHARE, Embedder
from models.judge import Embedding, embed_all
from models.metrics import Faces
from tests.models.fakes import ColourJudge


class Counting(ColourJudge):
    """Counts what it is asked, over all of its kind."""

    asked = 0

    def embed(self, crop: Pixels) -> Embedding:
        Counting.asked += 1
        return super().embed(crop)


@pytest.fixture
def noise() -> Faces:
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def asked(cache: Path, faces: Faces, *, keep: bool) -> int:
    """How many faces a new embedder asked the judge for; the numbers are right in any case."""
    before = Counting.asked
    embedder = Embedder(Counting, cache, processes=1)
    assert np.array_equal(embedder.embed(faces, keep=keep), embed_all(ColourJudge(), faces))
    return Counting.asked - before


def test_what_is_kept_is_judged_once(tmp_path: Path, noise: Faces) -> None:
    cache = tmp_path / "deep" / "cache.npz"
    assert [asked(cache, noise[:3], keep=True), asked(cache, noise, keep=True)] == [3, 2]
    assert asked(cache, noise[::-1], keep=True) == 0
    assert list(cache.parent.iterdir()) == [cache]


def test_what_is_not_kept_leaves_no_trace(tmp_path: Path, noise: Faces) -> None:
    cache = tmp_path / "cache.npz"
    assert asked(cache, noise, keep=False) == 5
    assert not cache.exists()


def test_another_judge_has_other_embeddings(tmp_path: Path, noise: Faces) -> None:
    cache = tmp_path / "cache.npz"
    asked(cache, noise, keep=True)

    class Other(Counting):
        name = "another"

    before = Counting.asked
    Embedder(Other, cache, processes=1).embed(noise)
    assert Counting.asked - before == 5


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_broken_cache_is_made_anew(tmp_path: Path, noise: Faces, content: bytes) -> None:
    cache = tmp_path / "cache.npz"
    cache.write_bytes(content)
    assert asked(cache, noise, keep=True) == 5
    assert asked(cache, noise, keep=True) == 0


def test_no_faces_are_no_embeddings() -> None:
    empty = np.empty((0, 64, 64, 3), np.uint8)
    assert Embedder(ColourJudge, processes=1).embed(empty).shape == (0, 128)


@pytest.mark.slow
def test_processes_give_the_same_numbers_in_the_same_order() -> None:
    faces = np.random.default_rng(1).integers(0, 256, (MIN_SHARE * 2 + 5, 64, 64, 3), dtype=np.uint8)
    with Embedder(ColourJudge, processes=2) as embedder:
        assert np.array_equal(embedder.embed(faces), embed_all(ColourJudge(), faces))
