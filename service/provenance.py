"""C2PA: photos signed with the operator's own certificate, so that who swapped them can be proved.

The signed manifest says what the XMP mark says: made by faceswapd, composite with trained algorithmic media.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from faceswap.faces import Image
from faceswap.images import DigitalSource, ImageFormat, write_image
from service.errors import SigningError
from service.settings import Settings

_BOTH = "FACESWAPD_C2PA_CERTIFICATE and FACESWAPD_C2PA_KEY belong together: set both or none"
_CURVES = {256: "es256", 384: "es384", 521: "es512"}
_OPTIONS = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"verify_after_sign": False}}
"""A thumbnail would be one more picture of the person; every signature is checked once, at the start."""
_UNTRUSTED = "signingCredential.untrusted"
"""Whether a certificate is on somebody's list is for who looks at the picture to judge."""


class PhotoSigner:
    """Signs pictures; any thread."""

    def __init__(self, certificate: bytes, key: bytes, version: str) -> None:
        """PEM: the certificate with those that it was signed by, and its private key. SigningError."""
        self._c2pa = _library()
        self._agent = {"name": "faceswapd", "version": version}
        self._context = self._opened(certificate, key)
        self._check()

    @classmethod
    def of(cls, settings: Settings, version: str) -> PhotoSigner | None:
        """None without the settings for it; SigningError where they do not lead to a valid signature."""
        certificate, key = settings.c2pa_certificate, settings.c2pa_key
        if certificate is None and key is None:
            return None
        if certificate is None or key is None:
            raise SigningError(_BOTH)
        return cls(_read(certificate, "CERTIFICATE"), _read(key, "KEY"), version)

    def sign(self, data: bytes, format: ImageFormat, source: DigitalSource) -> bytes:
        """The picture file with a signed manifest in it. SigningError."""
        signed = io.BytesIO()
        try:
            with self._c2pa.Builder(json.dumps(self._manifest(source)), context=self._context) as builder:
                builder.sign(format.media_type, io.BytesIO(data), signed)
        except self._c2pa.C2paError as error:
            raise SigningError(f"the picture could not be signed: {error}") from error
        return signed.getvalue()

    def _opened(self, certificate: bytes, key: bytes) -> Any:
        try:
            info = self._c2pa.C2paSignerInfo(_algorithm(key), certificate, key, None)
            signer = self._c2pa.Signer.from_info(info)
            return self._c2pa.Context.from_dict(_OPTIONS, signer=signer)
        except self._c2pa.C2paError as error:
            raise SigningError(f"FACESWAPD_C2PA_KEY and its certificate cannot sign: {error}") from error

    def _check(self) -> None:
        """A tiny picture is signed and read back: expired, unfit or foreign certificates show here."""
        black = write_image(Image(np.zeros((8, 8, 3), np.uint8)), ImageFormat.JPEG, DigitalSource.TRAINED)
        signed = self.sign(black, ImageFormat.JPEG, DigitalSource.TRAINED)
        with self._c2pa.Reader(ImageFormat.JPEG.media_type, io.BytesIO(signed)) as reader:
            found = (reader.get_validation_results() or {}).get("activeManifest", {})
        wrong = [entry["code"] for entry in found.get("failure", []) if entry["code"] != _UNTRUSTED]
        if wrong or not found:
            raise SigningError(
                f"what FACESWAPD_C2PA_CERTIFICATE signs is not valid ({', '.join(wrong) or 'no manifest'}); "
                "docs/responsible-use.md says what a certificate needs"
            )

    def _manifest(self, source: DigitalSource) -> dict[str, Any]:
        made = {"action": "c2pa.created", "digitalSourceType": source.value, "softwareAgent": self._agent}
        assertion = {"label": "c2pa.actions.v2", "data": {"actions": [made]}}
        return {"claim_generator_info": [self._agent], "assertions": [assertion]}


def _library() -> ModuleType:
    """Imported only where photos are signed: 23 MB of library."""
    try:
        import c2pa
    except ImportError:
        raise SigningError("FACESWAPD_C2PA_CERTIFICATE needs the extra c2pa: pip install '.[c2pa]'") from None
    found: ModuleType = c2pa
    return found


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningError(f"FACESWAPD_C2PA_{name} cannot be read: {error.strerror}") from None


def _algorithm(key: bytes) -> str:
    """The one that C2PA has for this kind of key."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # comes with c2pa-python
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise SigningError("FACESWAPD_C2PA_KEY is no private key in PEM without a password") from None
    if isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.key_size in _CURVES:
        return _CURVES[private.curve.key_size]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise SigningError("FACESWAPD_C2PA_KEY is of a kind that C2PA does not know: take EC P-256 or Ed25519")
