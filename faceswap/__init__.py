"""faceswap: photo in, swapped face out. No web, no torch."""

from faceswap.errors import (
    BundleError,
    DeviceError,
    ImageTooLargeError,
    NoFaceError,
    NoSuchFaceError,
    NotAnImageError,
    SwapError,
    TruncatedImageError,
    UnknownIdentityError,
    WrongCropSizeError,
)
from faceswap.faces import Box, Crop, Face, Image, Landmarks, Swapped
from faceswap.images import DigitalSource, ImageFormat, read_image, write_image
from faceswap.precisions import Precision
from faceswap.sessions import Device
from faceswap.swapper import Swapper

__all__ = [
    "Box",
    "BundleError",
    "Crop",
    "Device",
    "DeviceError",
    "DigitalSource",
    "Face",
    "Image",
    "ImageFormat",
    "ImageTooLargeError",
    "Landmarks",
    "NoFaceError",
    "NoSuchFaceError",
    "NotAnImageError",
    "Precision",
    "SwapError",
    "Swapped",
    "Swapper",
    "TruncatedImageError",
    "UnknownIdentityError",
    "WrongCropSizeError",
    "read_image",
    "write_image",
]
