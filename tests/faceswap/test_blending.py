"""paste: nothing outside the mask changes, an echoed face changes almost nothing inside."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image as PillowImage

from faceswap import Crop, Image
from faceswap.alignment import align, invert, transform
from faceswap.blending import (
    feathered_oval,
    match_color,
    paste,
    pasted,
    relight,
    sharpened,
    smoothed,
    without_strangers,
)
from faceswap.detection import LibFaceDetection
from faceswap.faces import Matrix, Pixels

Photo = Callable[[str], Image]


def crop_of(detector: LibFaceDetection, image: Image) -> Crop:
    return align(image, detector.refine(image, detector.detect(image)[0]).landmarks)


def in_crop(image: Image, matrix: Matrix) -> np.ndarray:
    """(H, W, 2): where the centre of each pixel of `image` lies in the crop."""
    x, y = np.meshgrid(np.arange(image.width) + 0.5, np.arange(image.height) + 0.5)
    return transform(np.stack([x, y], axis=-1).reshape(-1, 2), matrix).reshape(image.height, image.width, 2)


def outside(image: Image, matrix: Matrix) -> np.ndarray:
    """(H, W) bool: pixels further than two crop pixels away from where the mask is above zero."""
    padded = np.pad(feathered_oval(64) > 0, 4)
    near = np.any([np.roll(padded, (y, x), (0, 1)) for y in range(-2, 3) for x in range(-2, 3)], axis=0)
    x, y = np.clip(np.floor(in_crop(image, matrix)).astype(int) + 4, 0, 71).transpose(2, 0, 1)
    return np.asarray(~near[y, x])


@pytest.fixture
def half(photo: Photo) -> Image:
    """a.jpg at half its size: its face is about 170 px high."""
    picture = PillowImage.fromarray(photo("a.jpg").pixels)
    return Image(np.asarray(picture.reduce(2)))


def test_the_mask_fades_from_one_to_zero() -> None:
    mask = feathered_oval(64)
    assert mask.shape == (64, 64)
    assert mask.dtype == np.float32
    assert mask[35, 32] == 1
    assert all((side == 0).all() for side in (mask[:2], mask[-1:], mask[:, :2], mask[:, -2:]))
    assert np.allclose(mask, mask[:, ::-1], atol=1e-5)
    assert np.abs(np.diff(mask, axis=0)).max() < 0.3


@pytest.mark.parametrize("turn", [-5, -0.1, 0.1, 5])
def test_the_mask_leans_away_from_the_nose_and_stays_inside(turn: float) -> None:
    mask = feathered_oval(64, turn)
    centre = (mask.sum(axis=0) * np.arange(64)).sum() / mask.sum()
    assert (centre < 31.5) == (turn > 0)
    assert all((side == 0).all() for side in (mask[:1], mask[-1:], mask[:, :1], mask[:, -1:]))


def test_the_mask_covers_the_ends_of_the_brows_and_spares_the_far_side_of_a_turned_head() -> None:
    brow, cheek = 24, 48  # rows
    assert feathered_oval(64)[brow, [10, 53]].min() > 0.3
    ahead, turned = feathered_oval(64, 0.0), feathered_oval(64, 0.1)
    assert (turned[cheek] > 0).sum() < (ahead[cheek] > 0).sum()
    assert np.flatnonzero(turned[cheek])[-1] < np.flatnonzero(ahead[cheek])[-1] - 5
    assert np.flatnonzero(turned[cheek])[0] <= np.flatnonzero(ahead[cheek])[0]


def test_matched_colours_have_the_reference_mean_and_contrast() -> None:
    random = np.random.default_rng(0)
    mask = feathered_oval(64)
    face = np.clip(random.normal((90, 120, 60), 12, (64, 64, 3)), 0, 255).astype(np.uint8)
    reference = np.clip(random.normal((150, 110, 100), 18, (64, 64, 3)), 0, 255).astype(np.uint8)
    matched = match_color(face, reference, mask)
    core = mask > 0.9
    assert np.allclose(matched[core].mean(axis=0), reference[core].mean(axis=0), atol=1)
    assert np.allclose(matched[core].std(axis=0), reference[core].std(axis=0), rtol=0.1)


def test_matching_a_face_with_itself_changes_nothing(photo: Photo, detector: LibFaceDetection) -> None:
    pixels = crop_of(detector, photo("b.jpg")).pixels
    assert np.abs(match_color(pixels, pixels, feathered_oval(64)).astype(int) - pixels).max() <= 1


def test_a_flat_face_is_not_blown_up() -> None:
    random = np.random.default_rng(0)
    face = (100 + random.integers(0, 2, (64, 64, 1))).astype(np.uint8).repeat(3, axis=2)
    reference = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    matched = match_color(face, reference, feathered_oval(64)).astype(int)
    assert np.ptp(matched, axis=(0, 1)).max() <= 2


def test_an_empty_mask_leaves_the_colours() -> None:
    face = np.full((64, 64, 3), 7, np.uint8)
    assert match_color(face, face + 90, np.zeros((64, 64), np.float32)) is face


def test_outside_the_mask_the_photo_is_bit_identical(detector: LibFaceDetection, half: Image) -> None:
    crop = crop_of(detector, half)
    before = half.pixels.copy()
    result = paste(half, crop, 255 - crop.pixels)
    away = outside(half, crop.matrix)
    assert result.pixels.shape == half.pixels.shape
    assert np.array_equal(result.pixels[away], half.pixels[away])
    assert (result.pixels[~away] != half.pixels[~away]).mean() > 0.6  # the photo's cheeks are no negative's
    assert np.array_equal(half.pixels, before)


def test_a_photo_itself_is_pasted_into_for_a_block_alone(detector: LibFaceDetection, half: Image) -> None:
    own = Image(half.pixels.copy())
    crop = crop_of(detector, own)
    wanted = paste(own, crop, 255 - crop.pixels)
    with pytest.raises(ValueError, match="within"), pasted(own, crop, 255 - crop.pixels) as image:
        assert image is own
        assert np.array_equal(own.pixels, wanted.pixels)
        raise ValueError("within")
    assert np.array_equal(own.pixels, half.pixels)


def test_an_echoed_face_changes_almost_nothing(detector: LibFaceDetection, photo: Photo) -> None:
    # At about the crop's own scale: a larger face cannot keep its detail in 64 px.
    image = photo("a.jpg")
    small = Image(np.asarray(PillowImage.fromarray(image.pixels).resize((120, 90), 1, None, 3.0)))
    crop = crop_of(detector, small)
    difference = np.abs(paste(small, crop, crop.pixels).pixels.astype(int) - small.pixels)
    assert difference.mean() < 0.5
    assert np.percentile(difference, 99) < 10


def test_a_larger_echoed_face_keeps_place_and_colour(detector: LibFaceDetection, half: Image) -> None:
    crop = crop_of(detector, half)
    result = paste(half, crop, crop.pixels)
    again = align(result, detector.refine(result, detector.detect(result)[0]).landmarks)
    assert np.abs(result.pixels.astype(int) - half.pixels).mean() < 1
    assert (
        np.abs(
            transform(np.array([[32.0, 32.0]]), invert(crop.matrix))
            - transform(np.array([[32.0, 32.0]]), invert(again.matrix))
        ).max()
        < 3
    )


def test_a_mask_becomes_soft_inside_and_stays_0_outside() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 8:40] = 255
    soft = smoothed(mask)
    assert (soft[mask == 0] == 0).all()
    assert (soft[16:44, 14:34] == 1).all()
    assert np.abs(np.diff(soft[30])).max() < 0.6


def test_a_mask_in_doubt_decides() -> None:
    """A face that shines half through another is two faces."""
    levels = np.array([0, 40, 60, 200, 255], np.uint8)
    assert [smoothed(np.full((64, 64), level, np.uint8))[32, 32] for level in levels] == [0, 0, 0, 1, 1]


def test_a_mask_of_all_leaves_it_to_the_oval(photo: Photo, detector: LibFaceDetection) -> None:
    grey = PillowImage.fromarray(photo("b.jpg").pixels).convert("L").convert("RGB")
    image = Image(np.asarray(grey))  # so that the hue of the rim is that of the rest
    crop = crop_of(detector, image)
    whole = paste(image, crop, crop.pixels, np.full((64, 64), 255, np.uint8))
    difference = whole.pixels.astype(int) - paste(image, crop, crop.pixels).pixels
    assert np.abs(difference).max() <= 1


def test_where_the_mask_is_0_the_photo_is_bit_identical(half: Image, detector: LibFaceDetection) -> None:
    crop = crop_of(detector, half)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    result = paste(half, crop, 255 - crop.pixels, mask)
    right = in_crop(half, crop.matrix)[..., 0] > 32 + 2
    changed = (result.pixels != half.pixels).any(axis=2)
    assert not changed[right].any()
    assert not changed[outside(half, crop.matrix)].any()
    assert changed.any()
    nothing = paste(half, crop, 255 - crop.pixels, np.zeros((64, 64), np.uint8))
    assert np.array_equal(nothing.pixels, half.pixels)


def test_light_multiplies_so_a_dark_face_keeps_its_shadows() -> None:
    """A face of one third of the brightness gets most of it, and the ratio of its tones stays."""
    mask = feathered_oval(64)
    face = np.full((64, 64, 3), 60, np.uint8)
    face[:, ::4] = 30
    pale = np.full((64, 64, 3), 180, np.uint8)
    relit = relight(face, pale, mask).astype(float)
    assert 120 < relit.mean() < 180
    assert relit[0, 1] / relit[0, 0] == pytest.approx(2, rel=0.02)
    assert relight(face, np.zeros_like(face), mask).min() > 0, "a black photo does not swallow it"
    assert relight(face, pale, np.zeros((64, 64), np.float32)) is face


@pytest.mark.parametrize("brighter", [True, False])
def test_a_face_that_becomes_brighter_keeps_more_of_its_hue(brighter: bool) -> None:
    brown, pale = np.array((80, 50, 40)), np.array((180, 150, 140))
    own, around = (brown, pale) if brighter else (pale, brown)
    face, photo = (np.tile(tone.astype(np.uint8), (64, 64, 1)) for tone in (own, around))
    relit = relight(face, photo, feathered_oval(64))[32, 32].astype(float)
    ratios = [tone[0] / tone[2] for tone in (own, relit, around)]
    way = math.log(ratios[1] / ratios[0]) / math.log(ratios[2] / ratios[0])
    assert way == pytest.approx(0.5 if brighter else 0.8, abs=0.05)


@pytest.mark.parametrize("brighter", [True, False])
def test_hues_come_nearer_to_the_skins_only_where_it_becomes_brighter(brighter: bool) -> None:
    """Lips that are bluer than brown skin are not lavender on pale skin, and their luma is kept."""
    luma = np.array((0.299, 0.587, 0.114))
    face = np.tile(np.array((80, 50, 40), np.uint8), (64, 64, 1))
    lips = np.array((70, 53, 55))
    face[45:50, 25:40] = lips
    photo = np.full_like(face, 150 if brighter else 25)
    relit = relight(face, photo, feathered_oval(64)).astype(float)
    skin, mouth = relit[32, 32], relit[47, 32]
    assert mouth @ luma / (skin @ luma) == pytest.approx(lips @ luma / (face[32, 32] @ luma), rel=0.05)
    blueness = [(a[2] / a[0]) / (b[2] / b[0]) - 1 for a, b in ((lips, face[32, 32]), (mouth, skin))]
    assert blueness[1] / blueness[0] == pytest.approx(0.4 if brighter else 1.0, abs=0.1)


def test_a_face_of_the_photos_tone_is_hardly_relit() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    mask = feathered_oval(64)
    change = np.abs(relight(pixels, pixels, mask).astype(int) - pixels)
    assert change[mask == 1].max() <= 1


def test_a_face_fades_out_in_the_hue_of_its_skin() -> None:
    """Green background in a decoder's face is no green rim in the photo; its light and dark stay."""
    mask = feathered_oval(64)
    skin, green = np.array((150, 110, 90), np.uint8), np.array((60, 150, 80), np.uint8)
    face = np.where((mask > 0.5)[..., None], skin, green)
    photo = np.full_like(face, skin)
    relit = relight(face, photo, mask).astype(float)
    row = relit[32]
    rim = (mask[32] > 0.02) & (mask[32] < 0.2)
    assert rim.any()
    assert (row[rim, 0] > row[rim, 1]).all(), "more red than green, as skin is"
    luma = np.array((0.299, 0.587, 0.114))
    assert row[rim] @ luma == pytest.approx(np.full(rim.sum(), green @ luma), abs=2)
    assert np.abs(relit[mask == 1] - skin).max() <= 1


def test_a_ready_crop_is_pasted_by_the_identity() -> None:
    pixels = np.full((64, 64, 3), 100, np.uint8)
    pixels[:, ::2] = 140
    result = paste(Image(pixels), Crop(pixels, np.eye(2, 3)), pixels)
    assert np.abs(result.pixels.astype(int) - pixels).max() <= 1


def test_a_rim_where_both_show_the_same_or_another_tone_stays(photo: Photo) -> None:
    oval = feathered_oval(64)
    face = np.asarray(PillowImage.fromarray(photo("a.jpg").pixels).resize((64, 64))) // 2
    assert np.array_equal(without_strangers(oval, face, face), oval)
    redder = (face + np.array([90, 60, 40])).astype(np.uint8)
    assert np.allclose(without_strangers(oval, redder, face), oval, atol=0.01)


@pytest.mark.parametrize(("turn", "edge"), [(0.0, 14), (-0.1, 20)])
def test_a_rim_that_lies_over_the_photos_background_goes(turn: float, edge: int) -> None:
    oval = feathered_oval(64, turn)
    face, background = np.full((2, 64, 64, 3), 120, np.uint8)
    background[:, :edge] = 210
    kept = without_strangers(oval, face, background, turn)
    there = slice(0, edge - 2)
    assert oval[:, there].max() > 0.5 and kept[:, there].max() < 0.2
    assert np.array_equal(kept[:, edge + 6 :], oval[:, edge + 6 :])
    assert np.array_equal(without_strangers(oval, background, face, turn), kept)  # or over the face's own


def test_an_empty_cover_has_no_rim() -> None:
    nothing = np.zeros((64, 64), np.float32)
    assert without_strangers(nothing, *np.full((2, 64, 64, 3), 9, np.uint8)) is nothing


def test_a_face_that_is_enlarged_is_sharpened_in_luma_alone(photo: Photo) -> None:
    face = np.asarray(PillowImage.fromarray(photo("a.jpg").pixels).resize((64, 64)))
    twice = sharpened(face, 2)
    assert np.array_equal(sharpened(face, 1), face) and np.array_equal(sharpened(face, 0.4), face)
    assert steepness(face) < steepness(sharpened(face, 1.3)) < steepness(twice)
    assert np.array_equal(twice, sharpened(face, 7))
    inside = ((twice > 0) & (twice < 255)).all(axis=2)  # what was cut off lost its hue
    assert inside.mean() > 0.9
    hues = [(pixels.astype(int) - pixels[..., :1])[inside] for pixels in (face, twice)]
    assert np.abs(hues[0] - hues[1]).max() <= 1


def test_a_flat_face_stays_flat_when_enlarged() -> None:
    flat = np.full((64, 64, 3), (90, 60, 50), np.uint8)
    assert np.array_equal(sharpened(flat, 3), flat)


def steepness(face: Pixels) -> float:
    return float(np.abs(np.diff(face.astype(int), axis=0)).mean())


@pytest.mark.parametrize("shift", [(-40, 0), (0, -40), (500, 10), (10, 300), (-40, -40)])
def test_a_crop_beyond_the_border_is_cut_there(half: Image, shift: tuple[int, int]) -> None:
    x, y = shift
    matrix = np.array([[0.8, 0.1, -0.8 * x], [-0.1, 0.8, -0.8 * y]])
    crop = Crop(np.full((64, 64, 3), 90, np.uint8), matrix)
    result = paste(half, crop, np.full((64, 64, 3), 200, np.uint8))
    away = outside(half, matrix)
    assert result.pixels.shape == half.pixels.shape
    assert np.array_equal(result.pixels[away], half.pixels[away])


def test_a_crop_wholly_outside_changes_nothing(half: Image) -> None:
    matrix = np.array([[1.0, 0, -5000], [0, 1.0, -5000]])
    crop = Crop(np.full((64, 64, 3), 90, np.uint8), matrix)
    assert np.array_equal(paste(half, crop, crop.pixels).pixels, half.pixels)


def test_a_face_smaller_than_the_crop_is_averaged() -> None:
    checkers = (np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8)[..., None].repeat(3, axis=2)
    photo = Image(np.full((40, 40, 3), 100, np.uint8))
    matrix = np.array([[4.0, 0, -48], [0, 4.0, -48]])  # the face is 16 px in the photo
    result = paste(photo, Crop(checkers, matrix), checkers).pixels.astype(int)
    assert np.abs(result - 100).max() <= 12


def test_an_enlarged_face_is_smooth() -> None:
    # 64 px over 640: a ramp must stay a ramp, with no steps of 10 px and no edge at the mask.
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 2 + 60, (64, 64, 3)).copy()
    wide = np.broadcast_to((np.arange(640) / 5 + 60)[None, :, None], (640, 640, 3)).astype(np.uint8)
    result = paste(Image(wide), Crop(ramp, np.array([[0.1, 0, 0], [0, 0.1, 0]])), ramp).pixels
    assert np.abs(np.diff(result[320, :, 0].astype(int))).max() <= 2
    assert np.abs(result.astype(int) - wide).max() <= 3
