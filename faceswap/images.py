"""Bytes to Image and back: formats, EXIF rotation, pixel limits, the mark of synthetic pictures."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from enum import StrEnum
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

from faceswap.decoding import decoding_bytes
from faceswap.errors import ImageTooLargeError, NotAnImageError, TruncatedImageError
from faceswap.faces import Image, Pixels
from faceswap.png import SMALL_PIXELS, write_small_png

MAX_PIXELS = 51_000_000
"""A 50 Mpx phone makes 8160x6144. Read from the header before anything is decoded, as a 10 kB PNG may
announce 81 Mpx."""

# Named by their classes: the import registers each, else the first WebP would load all of Pillow's plugins.
_FORMATS = tuple(str(file.format) for file in (JpegImageFile, PngImageFile, WebPImageFile))
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")
# What Pillow lets out of damaged files, from its own decoders and from zlib and struct below them.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError)
_STRIP_PIXELS = 1_000_000
_ORIENTATION = 0x0112  # EXIF tag
_Transpose = PillowImage.Transpose
_UPRIGHT = {
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_FROM_THE_END = (3, 4, 6, 7)
"""Of the stored rows the last one comes first, as a row or as a column."""


class ImageFormat(StrEnum):
    """What an answer can be written as."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def max_side(self) -> int:
        """Pixels: WebP stores 14 bits a side, libjpeg stops at 65,500."""
        return {"png": 2**31 - 1, "jpeg": 65_500, "webp": 16_383}[self.value]


class DigitalSource(StrEnum):
    """How a picture came to be, as an IPTC DigitalSourceType (cv.iptc.org/newscodes)."""

    TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"


def read_image(
    data: bytes, max_pixels: int = MAX_PIXELS, at_least: int | None = None, max_bytes: int | None = None
) -> Image:
    """The upright picture in `data`, a JPEG, PNG or WebP file; of an animated one the first frame.

    With `at_least`, a JPEG may come out smaller by 2, 4 or 8 as long as its longer side keeps
    that many pixels: the decoder then skips most of its work. Transparent parts turn white.
    NotAnImageError, TruncatedImageError, or ImageTooLargeError above `max_pixels`, or where decoding
    would take more memory than `max_bytes`.
    """
    picture = _open(data, max_pixels)
    size = picture.size
    _check_pixels(size, max_pixels)
    try:
        if at_least is not None:
            _draft(picture, at_least)
        if max_bytes is not None:
            _check_memory(picture, size, max_bytes)
        picture.load()  # before the EXIF block, whose reader may load a PNG and hide what that raised
        return Image(_pixels(picture, _orientation(picture)))
    except _DAMAGE as error:
        raise TruncatedImageError("the picture breaks off or is damaged") from error


def _open(data: bytes, max_pixels: int) -> PillowImage.Image:
    """The picture with its header read and nothing decoded."""
    try:
        return PillowImage.open(io.BytesIO(data), formats=_FORMATS)
    except (PillowImage.DecompressionBombError, PillowImage.DecompressionBombWarning) as error:
        limit = f"the limit is {max_pixels / 1e6:g} million"
        raise ImageTooLargeError(f"the picture has far too many pixels; {limit}") from error
    except _DAMAGE as error:
        if data.startswith(_SIGNATURES):
            raise TruncatedImageError("the picture breaks off or is damaged in its header") from error
        raise NotAnImageError("the file is no JPEG, PNG or WebP picture (convert HEIC first)") from error


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the picture has {width}x{height} pixels, {width * height / 1e6:.1f} million; "
            f"the limit is {max_pixels / 1e6:g} million"
        )


def _check_memory(picture: PillowImage.Image, size: tuple[int, int], max_bytes: int) -> None:
    if (needed := decoding_bytes(picture, size)) > max_bytes:
        raise ImageTooLargeError(
            f"a {picture.format} of this kind with {size[0]}x{size[1]} pixels takes {needed / 1e6:.0f} MB "
            f"to decode, the limit is {max_bytes / 1e6:.0f} MB; make it smaller"
        )


def _draft(picture: PillowImage.Image, at_least: int) -> None:
    ratio = at_least / max(picture.size)
    if ratio < 1:
        picture.draft(None, (math.ceil(picture.width * ratio), math.ceil(picture.height * ratio)))


def _orientation(picture: PillowImage.Image) -> int:
    """By the EXIF block, 1 to 8. A broken one is no reason to refuse a photo."""
    with suppress(*_DAMAGE):
        found = picture.getexif().get(_ORIENTATION, 1)
        return found if found in _UPRIGHT else 1
    return 1


def _pixels(picture: PillowImage.Image, orientation: int) -> Pixels:
    """(H, W, 3), strip by strip: a second whole picture would be 200 MB at 50 Mpx."""
    width, height = picture.size
    is_sideways, turn = orientation in _SIDEWAYS, _UPRIGHT.get(orientation)
    pixels = np.empty((width, height, 3) if is_sideways else (height, width, 3), np.uint8)
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        strip = _opaque(picture.crop((0, top, width, bottom)))
        if turn is not None:
            strip = strip.transpose(turn)
        part = slice(height - bottom, height - top) if orientation in _FROM_THE_END else slice(top, bottom)
        pixels[(slice(None), part) if is_sideways else part] = np.asarray(strip)
    return pixels


def _opaque(picture: PillowImage.Image) -> PillowImage.Image:
    """In RGB."""
    if picture.mode.startswith("I"):  # 16-bit grey: keep the high byte
        wide = np.asarray(picture).astype(np.uint16)
        return PillowImage.fromarray((wide >> 8).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        layer = picture if picture.mode == "RGBA" else picture.convert("RGBA")
        white = PillowImage.new("RGB", picture.size, "white")
        white.paste(layer, mask=layer)
        return white
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def write_image(
    image: Image,
    format: ImageFormat,
    source: DigitalSource,
    quality: int = 92,
    subsampling: str = "4:4:4",
) -> bytes:
    """The file's bytes, marked as synthetic by an XMP packet with the IPTC DigitalSourceType.

    Nothing else of the photo's metadata is written. `quality` is for JPEG and WebP, `subsampling` of
    the colours for JPEG.
    ImageTooLargeError where the format cannot hold the picture.
    """
    longer = max(image.width, image.height)
    if longer > format.max_side:
        raise ImageTooLargeError(
            f"this picture is {longer} pixels long, {format.value} holds {format.max_side}; ask for png"
        )
    if format is ImageFormat.PNG and image.width * image.height <= SMALL_PIXELS:
        return write_small_png(image.pixels, _xmp(source))
    stream = io.BytesIO()
    options = _options(format, _xmp(source), quality) | _jpeg(format, subsampling)
    PillowImage.fromarray(image.pixels).save(stream, format.value.upper(), **options)
    return stream.getvalue()


def _options(format: ImageFormat, xmp: bytes, quality: int) -> dict[str, Any]:
    if format is ImageFormat.PNG:
        chunk = PngInfo()
        chunk.add_itxt("XML:com.adobe.xmp", xmp.decode())
        return {"pnginfo": chunk, "compress_level": 1}  # level 6: 3 times the time for 13 % less
    return {"xmp": xmp, "quality": quality}


def _jpeg(format: ImageFormat, subsampling: str) -> dict[str, Any]:
    return {"subsampling": subsampling} if format is ImageFormat.JPEG else {}


def _xmp(source: DigitalSource) -> bytes:
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source.value}</Iptc4xmpExt:DigitalSourceType>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="w"?>'
    ).encode()
