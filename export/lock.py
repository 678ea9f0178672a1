"""One export at a time into one bundle: two that read the same old manifest would lose one's identities."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from models.errors import TrainingError

LOCK_NAME = ".lock"
PATIENCE_S = 600.0
"""An export of some identities takes a minute on two busy cores."""

log = logging.getLogger("export")


class BundleLockedError(TrainingError):
    """Another process holds the bundle's lock; the message says which file that is."""


@contextmanager
def locked(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Holds the bundle in `folder`, which is made if need be. BundleLockedError after `patience_s`.

    The system frees the lock of a process that dies. The file is gone afterwards, and so is a folder
    that nothing was written into.
    """
    created = not folder.exists()
    file = _wait(folder, patience_s)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open; an empty one does no harm
            (folder / LOCK_NAME).unlink()
        file.close()
        if created:
            with suppress(OSError):  # it holds a bundle now, as it should
                folder.rmdir()


def _wait(folder: Path, patience_s: float) -> IO[bytes]:
    end = time.monotonic() + patience_s
    told = False
    while (file := _take(folder)) is None:
        if time.monotonic() >= end:
            raise BundleLockedError(
                f"another export is still writing {folder} after {patience_s:g} s (it holds "
                f"{folder / LOCK_NAME}); wait for it to end, then export again"
            )
        if not told:
            log.info("waiting for another export into %s", folder)
            told = True
        time.sleep(0.05)
    return file


def _take(folder: Path) -> IO[bytes] | None:
    """The locked file; None if somebody else has the lock, or had it and has just removed the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    try:
        file = path.open("ab")
    except FileNotFoundError:
        return None
    try:
        if _lock(file) and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except FileNotFoundError:
        pass
    except BaseException:
        file.close()
        raise
    file.close()
    return None


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:  # Windows does not tell a held lock from any other failure
            return False
        return True

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
