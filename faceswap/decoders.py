"""DecoderBank: identity -> session, loaded on first use; which stay in memory is the cache's affair."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from contextlib import AbstractContextManager

import numpy as np

from faceswap.bundle import Bundle, IdentityEntry
from faceswap.errors import BundleError
from faceswap.faces import CROP_SIZE
from faceswap.precisions import Graphs, Precision
from faceswap.session_cache import SessionCache
from faceswap.sessions import Session, SessionFactory
from faceswap.signatures import Signature, Tensor


class DecoderBank:
    """The decoders of a bundle; safe from any thread. Banks may share a cache, and then sessions."""

    def __init__(
        self,
        bundle: Bundle,
        factory: SessionFactory,
        precision: Precision = Precision.AUTO,
        cache: SessionCache | None = None,
        pinned: Collection[str] = (),
    ) -> None:
        """`pinned` identities are never let go once they are loaded; BundleError if one is unknown."""
        self._bundle = bundle
        self._graphs = Graphs(bundle, factory.without_arena(), precision)
        self._cache = cache or SessionCache()
        self.pinned = tuple(pinned)
        for name in sorted({*pinned} - {entry.name for entry in bundle.manifest.identities}):
            raise BundleError(f"{name[:64]!r} is pinned, but bundle {bundle.folder} has no such identity")
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
        size = self._graphs.size(entry.decoder, entry.variants)
        return self._cache.get(self._key(entry), size, lambda: self._open(entry))

    def hold(self, identity: str) -> AbstractContextManager[None]:
        """A block in which the decoder, once it is loaded, is not let go. UnknownIdentityError."""
        return self._cache.hold(self._key(self._bundle.identity(identity)))

    def is_ready(self, identity: str) -> bool:
        """Would `get` answer at once? UnknownIdentityError."""
        return self._cache.is_ready(self._key(self._bundle.identity(identity)))

    def load_pinned(self) -> None:
        for identity in self.pinned:
            self.get(identity)

    def take_over(self) -> None:
        """From now on the cache serves this bank alone: leftovers of others go when nobody holds them."""
        keys = {entry.name: self._key(entry) for entry in self._bundle.manifest.identities}
        self._cache.keep(keys.values(), [keys[name] for name in self.pinned])

    def prove(self, before: DecoderBank) -> None:
        """Opens and runs every decoder that `before` does not have; raises as `get` does.

        Those of identities that `before` has in memory, and pinned ones, stay loaded.
        """
        known = {before._key(entry) for entry in before._bundle.manifest.identities}
        warm = {*before.loaded, *self.pinned}
        for entry in self._bundle.manifest.identities:
            if self._key(entry) in known:
                continue
            if entry.name in warm:
                self.get(entry.name)
            else:
                self._open(entry)

    @property
    def loaded(self) -> list[str]:
        """Names of the identities whose decoder is in memory."""
        ready = self._cache.ready
        return sorted(entry.name for entry in self._bundle.manifest.identities if self._key(entry) in ready)

    @property
    def bytes(self) -> int:
        """Memory of all decoders in the cache, see `SessionCache.bytes`."""
        return self._cache.bytes

    @property
    def limit_bytes(self) -> int | None:
        return self._cache.limit_bytes

    def _open(self, entry: IdentityEntry) -> Session:
        """Read, checked and run once in every size that batches have."""
        session = self._graphs.open(entry.decoder, entry.variants, self._signature)
        sizes = self._graphs.factory.batch_sizes
        for size in sizes if len(sizes) > 1 else ():  # the check was a run already
            session.run(np.zeros((size, *self._signature.takes.shape), self._signature.takes.dtype))
        return session

    def _key(self, entry: IdentityEntry) -> Hashable:
        """A session depends on its files and its precision, so bundles with the same files share it."""
        return self._graphs.key(entry.decoder, entry.variants), self._signature
