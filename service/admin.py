"""/admin: what only the operator may ask for. service/doors.py lets nobody in without a key for it."""

from __future__ import annotations

from fastapi import APIRouter

from service.errors import (
    AdminClosedError,
    AdminKeyError,
    DrainingError,
    KeyScopeError,
    ReloadRefusedError,
    ReloadRunningError,
    StartingError,
)
from service.keys import KeysError
from service.parts import TheParts
from service.problems import responses
from service.schemas import Reloaded

router = APIRouter(prefix="/admin", tags=["admin"])


@router.post(
    "/reload",
    summary="Serve what the bundle's folder holds now",
    responses=responses(
        AdminKeyError,
        AdminClosedError,
        KeyScopeError,
        ReloadRunningError,
        ReloadRefusedError,
        StartingError,
        DrainingError,
    ),
)
async def reload(parts: TheParts) -> Reloaded:
    """Answers when the new bundle is served. A bundle that is refused changes nothing.

    The file of keys is read anew before, and holds whatever comes of the bundle. Needs
    `Authorization: Bearer` with FACESWAPD_ADMIN_KEY or a key for admin. SIGHUP does the same.
    """
    try:
        parts.keyring.reload()
    except KeysError as error:
        raise ReloadRefusedError(error) from error
    return await parts.reloader.reload()
