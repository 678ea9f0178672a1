"""DecoderBank: identity -> session, loaded on first use and kept."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from faceswap.bundle import Bundle
from faceswap.faces import CROP_SIZE
from faceswap.sessions import Session, SessionFactory
from faceswap.signatures import Signature, Tensor


class DecoderBank:
    """The decoders of a bundle; safe from any thread."""

    def __init__(self, bundle: Bundle, factory: SessionFactory) -> None:
        self._bundle = bundle
        self._factory = factory
        self._lock = threading.Lock()
        self._sessions: dict[str, Future[Session]] = {}
        rgb, rgb_and_mask = (Tensor("uint8", (CROP_SIZE, CROP_SIZE, planes)) for planes in (3, 4))
        latent = Tensor("float32", bundle.manifest.latent.shape)
        self._signature = Signature(latent, rgb, or_gives=(rgb_and_mask,))

    def get(self, identity: str) -> Session:
        """The decoder's session; callers that ask while it loads wait for that one load.

        It gives uint8 (N, 64, 64, 3) RGB, or (N, 64, 64, 4) RGB and mask: see `faces.Swapped`.
        UnknownIdentityError, BundleError (the file was damaged since the start) or DeviceError;
        a load that failed is tried anew by the next call.
        """
        entry = self._bundle.identity(identity)
        with self._lock:
            future = self._sessions.get(identity)
            mine = future is None
            if future is None:
                future = self._sessions[identity] = Future()
        if mine:
            try:
                graph = self._bundle.read(entry.decoder)
                future.set_result(self._factory.open(graph, entry.decoder.path, self._signature))
            except BaseException as error:
                with self._lock:
                    del self._sessions[identity]
                future.set_exception(error)
        return future.result()

    @property
    def loaded(self) -> list[str]:
        """Names of the identities whose decoder is in memory."""
        with self._lock:
            ready = [name for name, future in self._sessions.items() if future.done()]
        return sorted(ready)
