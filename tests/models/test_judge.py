"""The judge of identity, where dlib is installed, and the fake one that the other tests use."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from faceswap.alignment import Template
from faceswap.detection import LibFaceDetection
from models.crop import crop_photo
from models.errors import DataError
from models.judge import DlibJudge, embed_all
from models.metrics import Faces
from tests.models.fakes import ColourJudge


@pytest.fixture(scope="module")
def pictures(faces: Tensor) -> Faces:
    """(12, 64, 64, 3): one person."""
    return faces.permute(0, 2, 3, 1).byte().numpy()


def test_the_judge_knows_a_person_again(pictures: Faces, examples: Path) -> None:
    pytest.importorskip("_dlib_pybind11", reason="the judge, dlib-bin, is not installed")
    pytest.importorskip("face_recognition_models", reason="the judge's models are not installed")
    judge = DlibJudge()
    embeddings = embed_all(judge, pictures)
    assert embeddings.shape == (len(pictures), 128)
    assert np.array_equal(judge.embed(pictures[0]), embeddings[0])
    centre = embeddings.mean(axis=0)
    data = (examples / "a.jpg").read_bytes()
    stranger = judge.embed(np.asarray(crop_photo(data, LibFaceDetection(), Template())))
    assert np.linalg.norm(embeddings - centre, axis=1).max() < np.linalg.norm(stranger - centre)


@pytest.mark.parametrize("package", ["_dlib_pybind11", "face_recognition_models"])
def test_without_the_judge_the_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # what Python takes for "not installed"
    with pytest.raises(DataError, match="pip install --no-deps dlib-bin"):
        DlibJudge()


def test_the_fake_judge_tells_pictures_apart(pictures: Faces) -> None:
    embeddings = embed_all(ColourJudge(), pictures)
    distances = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    assert embeddings.shape == (len(pictures), 128)
    assert (distances.argmin(axis=1) == np.arange(len(pictures))).all()
