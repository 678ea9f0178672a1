"""What can go wrong, as types. No HTTP in here: `service/errors.py` maps each to a status."""

from __future__ import annotations

from collections.abc import Iterable

SHOWN = 20
"""So many names are said in a message; a bundle may have a thousand."""


class SwapError(Exception):
    """Parent of all that this library raises on purpose; the message is safe to show to a user."""


class NotAnImageError(SwapError):
    """The bytes are no JPEG, PNG or WebP picture."""


class TruncatedImageError(SwapError):
    """The picture begins well and then breaks off or is damaged."""


class ImageTooLargeError(SwapError):
    """The picture's header announces more pixels than the limit allows."""


class WrongCropSizeError(SwapError):
    """A photo handed in as a ready crop is not 64x64."""


class NoFaceError(SwapError):
    """No face was found in the photo."""


class NoSuchFaceError(SwapError):
    """The photo has faces, but fewer than the asked index needs."""


class UnknownIdentityError(SwapError):
    """The bundle has no identity of that name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.known = sorted(known)
        few = ", ".join(self.known[:SHOWN]) + (
            f" and {more} more" if (more := len(self.known) - SHOWN) > 0 else ""
        )
        super().__init__(f"there is no identity {name[:64]!r}; this service has: {few}")


class BundleError(SwapError):
    """A bundle that must not be served: missing or damaged files, or another schema."""


class DeviceError(SwapError):
    """The asked device cannot run the graphs; there is no silent change to another."""


class DeviceLostError(DeviceError):
    """The device failed while it ran, or ran out of memory: only a new process gets it back."""
