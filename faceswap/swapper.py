"""Photo in, swapped face out: the whole pipeline, from top to bottom."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceswap import blending
from faceswap.alignment import Template, align
from faceswap.bundle import Bundle
from faceswap.cuda import CudaOptions
from faceswap.decoders import DecoderBank
from faceswap.detection import FaceDetector, LibFaceDetection
from faceswap.errors import NoFaceError, NoSuchFaceError, WrongCropSizeError
from faceswap.faces import CROP_SIZE, Crop, Face, Image, Pixels, Swapped, rgb_of
from faceswap.images import read_image
from faceswap.precisions import Graphs, Precision
from faceswap.session_cache import SessionCache
from faceswap.sessions import Device, Session, SessionFactory
from faceswap.signatures import Signature, Tensor

Latents = npt.NDArray[np.float32]
"""(N, C, h, w)"""

Photo = bytes | str | Path | Image
"""A picture's bytes, the path of its file, or the picture itself."""

FACE_ONLY_SIDE = 1600
"""Where only 64 px of face are wanted, a larger JPEG is decoded at a half, quarter or eighth."""

_CROP_SHAPE = (CROP_SIZE, CROP_SIZE, 3)


class Swapper:
    """The identities of one bundle, ready to be swapped in; every method is safe from any thread."""

    def __init__(
        self,
        bundle: Bundle,
        factory: SessionFactory,
        detector: FaceDetector,
        precision: Precision | str = Precision.AUTO,
        cache: SessionCache | None = None,
        pinned: Collection[str] = (),
        encoder: Session | None = None,
    ) -> None:
        """`cache` keeps decoders, `pinned` ones for ever; `encoder` saves opening the same graph again."""
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.identities = tuple(identity.name for identity in bundle.manifest.identities)
        self.detector = detector
        self._graphs = Graphs(bundle, factory, Precision(precision))
        self._cache = cache or SessionCache()
        self._template = Template(self.manifest.crop.template, self.manifest.crop.size)
        self._latent_shape = self.manifest.latent.shape
        network = self.manifest.encoder
        signature = Signature(Tensor("uint8", _CROP_SHAPE), Tensor("float32", self._latent_shape))
        self._encoder = encoder or self._graphs.open(network.graph, network.variants, signature)
        self._graphs.check()
        self.decoders = DecoderBank(bundle, factory, self._graphs.wanted, self._cache, pinned)

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        device: Device | str = Device.AUTO,
        threads: int | None = None,
        precision: Precision | str = Precision.AUTO,
        decoder_bytes: int | None = None,
        pinned: Collection[str] = (),
        cuda: CudaOptions | None = None,
        lone_threads: int | None = None,
    ) -> Swapper:
        """The swapper of a bundle's folder; BundleError or DeviceError, each in one line.

        Decoders that were not used for long are let go when all take more than `decoder_bytes` of
        memory (of the device on CUDA), except those of `pinned` identities; without a limit all that were
        used stay. `cuda` is for sessions on CUDA. The encoder runs on `lone_threads`, if these are more
        than `threads`, while it runs once at a time: a single answer comes sooner.
        """
        opened = Bundle.open(Path(bundle))
        factory = SessionFactory(device, threads, cuda=cuda, lone_threads=lone_threads)
        cache = SessionCache(decoder_bytes, factory.memory_bytes, most=lambda: factory.largest_ratio)
        swapper = cls(opened, factory, LibFaceDetection(), precision, cache, pinned)
        swapper.take_over()
        return swapper

    def reopened(self, bundle: str | Path) -> Swapper:
        """The swapper of what the folder holds now, proved and warm; this one goes on as before.

        What is unchanged is shared, not loaded again. Every other graph is loaded and run once, so
        that BundleError or DeviceError come from here and not from the swaps. The precision that was
        asked for is asked for again. To be followed by its `take_over`, unless this one shall go on.
        """
        opened = Bundle.open(Path(bundle), checked=self.bundle)
        factory, wanted = self._graphs.factory, self._graphs.wanted
        pinned = self.decoders.pinned
        try:
            same_encoder = _encoder_key(Graphs(opened, factory, wanted)) == _encoder_key(self._graphs)
            encoder = self._encoder if same_encoder else None
            fresh = Swapper(opened, factory, self.detector, wanted, self._cache, pinned, encoder)
            fresh.decoders.prove(self.decoders)
            fresh.warm_up()
        except BaseException:
            self.take_over()  # lets go what was loaded for the other
            raise
        return fresh

    def take_over(self) -> None:
        """From now on decoders of other swappers with the same cache are let go once nobody holds them."""
        self.decoders.take_over()

    @property
    def provider(self) -> str:
        """Where the graphs really run, in onnxruntime's words."""
        return self._encoder.provider

    @property
    def failure(self) -> str | None:
        """Why the device has broken, if it has: nothing can be swapped any more by this process."""
        return self._graphs.factory.fault.reason

    @property
    def precision(self) -> Precision:
        """In which the encoder runs."""
        return self._graphs.precision(self.manifest.encoder.variants)

    def precision_of(self, identity: str) -> Precision:
        """In which the decoder of `identity` runs. UnknownIdentityError."""
        return self._graphs.precision(self.bundle.identity(identity).variants)

    def swap(self, photo: Photo, identity: str, face: int = 0) -> Image:
        """The 64x64 face of `identity` with pose, light and expression of the photo's face.

        `face` counts from the largest, 0.
        """
        self.check(identity)
        image = self.read(photo, at_least=FACE_ONLY_SIDE)
        crop = self.align(image, self.find_face(image, face))
        return Image(self._swap_crop(crop, identity).pixels)

    def swap_photo(self, photo: Photo, identity: str, face: int = 0) -> Image:
        """The whole photo with the face of `identity` set into it."""
        self.check(identity)
        image = self.read(photo)
        crop = self.align(image, self.find_face(image, face))
        swapped = self._swap_crop(crop, identity)
        return self.paste(image, crop, swapped.pixels, swapped.mask)

    def check(self, identity: str) -> None:
        """UnknownIdentityError before any work is done."""
        self.bundle.identity(identity)

    def hold(self, identity: str) -> AbstractContextManager[None]:
        """A block in which the decoder of `identity`, once loaded, stays. UnknownIdentityError."""
        return self.decoders.hold(identity)

    def is_loaded(self, identity: str) -> bool:
        """Can `identity` be decoded without loading anything? UnknownIdentityError."""
        return self.decoders.is_ready(identity)

    def load(self, identity: str) -> None:
        """Loads the decoder of `identity` if it is not there. UnknownIdentityError, BundleError."""
        self.decoders.get(identity)

    def read(self, photo: Photo, at_least: int | None = None) -> Image:
        """The picture, upright RGB; `at_least` as in `read_image`."""
        if isinstance(photo, Image):
            return photo
        data = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        return read_image(data, at_least=at_least)

    def find_face(self, image: Image, index: int = 0) -> Face:
        """The face number `index`, the largest first; NoFaceError or NoSuchFaceError."""
        faces = self.detector.detect(image, at_least=index + 1)
        if not faces:
            raise NoFaceError(
                "no face was found; try a photo with a larger, brighter, more frontal face, "
                f"or crop=none for a picture that is an aligned {CROP_SIZE}x{CROP_SIZE} face already"
            )
        if not 0 <= index < len(faces):
            raise NoSuchFaceError(
                f"face {index} was asked for, but the photo has {len(faces)}, counted from 0"
            )
        return self.detector.refine(image, faces[index])

    def follow(self, image: Image, last: Face) -> Face | None:
        """`last`, a face of the frame before, in this one; None if it is not near its old place."""
        face = self.detector.refine(image, last)
        return None if face is last else face

    def align(self, image: Image, face: Face) -> Crop:
        """The face upright on the bundle's template."""
        return align(image, face.landmarks, self._template)

    def ready_crop(self, image: Image) -> Crop:
        """A picture that is an aligned crop already, taken as it is; WrongCropSizeError if not 64x64."""
        if image.pixels.shape != _CROP_SHAPE:
            raise WrongCropSizeError(
                f"a ready crop must have {CROP_SIZE}x{CROP_SIZE} pixels, this picture has "
                f"{image.width}x{image.height}"
            )
        return Crop(image.pixels, np.eye(2, 3))

    def encode(self, crops: Pixels) -> Latents:
        """(N, 64, 64, 3) uint8 RGB -> (N, C, h, w) float32. ValueError for anything else."""
        _expect(crops, np.uint8, _CROP_SHAPE)
        return self._encoder.run(np.ascontiguousarray(crops))

    def decode(self, latents: Latents, identity: str) -> Pixels:
        """(N, C, h, w) float32 -> (N, 64, 64, 3) uint8 RGB. UnknownIdentityError, ValueError."""
        return rgb_of(self._decode(latents, identity))

    def decode_faces(self, latents: Latents, identity: str) -> list[Swapped]:
        """The same faces with the masks that `paste` takes, where the decoder has one."""
        return [Swapped.of(planes) for planes in self._decode(latents, identity)]

    def _decode(self, latents: Latents, identity: str) -> Pixels:
        """(N, 64, 64, 3) or (N, 64, 64, 4), as the decoder's graph gives it."""
        self.check(identity)
        _expect(latents, np.float32, self._latent_shape)
        if not np.isfinite(latents).all():  # onnxruntime would make a face of it without a word
            raise ValueError("latents hold NaN or infinity")
        return self.decoders.get(identity).run(np.ascontiguousarray(latents))

    def paste(self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None) -> Image:
        """`photo` with the swapped `face` (64, 64, 3) where `crop` was cut out.

        The photo stays where `mask` (64, 64) is 0. The oval leans with the nose in either case: masks
        that were learned from plain backgrounds hardly mark any, and a halo is left beside a turned face.
        """
        return blending.paste(photo, crop, face, mask, self._turn(crop))

    def pasted(
        self, photo: Image, crop: Crop, face: Pixels, mask: Pixels | None = None
    ) -> AbstractContextManager[Image]:
        """A block in which `photo` itself is what `paste` makes of it; its pixels must be writable."""
        return blending.pasted(photo, crop, face, mask, self._turn(crop))

    def warm_up(self) -> None:
        """The first run of each batch size is slower than the rest; decoders are tried when loaded."""
        for size in self._graphs.factory.batch_sizes:
            self.encode(np.zeros((size, *_CROP_SHAPE), np.uint8))
        self.decoders.load_pinned()

    def _turn(self, crop: Crop) -> float:
        """How far the nose lies right of the eyes' middle, as a share of the crop's side.

        A ready crop has no landmarks and is searched, which takes 2 ms.
        """
        landmarks = crop.landmarks
        for face in self.detector.detect(Image(crop.pixels)) if landmarks is None else ():
            landmarks = face.landmarks
            break
        if landmarks is None:
            return 0.0
        points = landmarks.points
        return float(points[2, 0] - points[:2, 0].mean()) / CROP_SIZE

    def _swap_crop(self, crop: Crop, identity: str) -> Swapped:
        return self.decode_faces(self.encode(crop.pixels[None]), identity)[0]


def _encoder_key(graphs: Graphs) -> Hashable:
    """What an encoder's session depends on."""
    manifest = graphs.bundle.manifest
    return graphs.key(manifest.encoder.graph, manifest.encoder.variants), manifest.latent.shape


def _expect(batch: npt.NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    """onnxruntime takes an empty batch without a word."""
    if batch.dtype != dtype or batch.shape[1:] != shape or len(batch) == 0:
        raise ValueError(f"expected {dtype.__name__} (N, {shape}), got {batch.dtype} {batch.shape}")
