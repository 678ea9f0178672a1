"""/admin: what only the operator may ask for, with the key of FACESWAPD_ADMIN_KEY."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Request

from service.errors import (
    AdminClosedError,
    AdminKeyError,
    DrainingError,
    ReloadRefusedError,
    ReloadRunningError,
    StartingError,
)
from service.parts import TheParts
from service.problems import responses
from service.schemas import Reloaded

SCHEME = "bearer"


async def require_key(request: Request, parts: TheParts) -> None:
    """AdminClosedError where the service has no key, AdminKeyError unless the request has it."""
    key = parts.settings.admin_key
    if key is None:
        raise AdminClosedError
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Headers come as latin-1; the time of the comparison tells nothing about the key.
    right = hmac.compare_digest(given.strip().encode("latin-1"), key.get_secret_value().encode())
    if scheme.lower() != SCHEME or not right:
        raise AdminKeyError


router = APIRouter(prefix="/admin", tags=["admin"])

Admin = Annotated[None, Depends(require_key)]


@router.post(
    "/reload",
    summary="Serve what the bundle's folder holds now",
    responses=responses(
        AdminKeyError, AdminClosedError, ReloadRunningError, ReloadRefusedError, StartingError, DrainingError
    ),
)
async def reload(_: Admin, parts: TheParts) -> Reloaded:
    """Answers when the new bundle is served. A bundle that is refused changes nothing.

    Needs `Authorization: Bearer` with the key of FACESWAPD_ADMIN_KEY. SIGHUP does the same.
    """
    return await parts.reloader.reload()
