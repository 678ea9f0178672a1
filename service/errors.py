"""What the service refuses, as types, and ONE table: type -> status, problem type and title."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect

from faceswap import errors as library


class ServiceError(Exception):
    """Parent of what the HTTP shell refuses; the message is shown to the client."""


class NoImageError(ServiceError):
    """The request carries no photo."""


class UnsupportedBodyError(ServiceError):
    """The body is neither a multipart form nor a picture."""


class BadMultipartError(ServiceError):
    """The multipart form cannot be read."""


class BadTensorError(ServiceError):
    """The tensors of a /v2 request are not what the networks take."""


class BadEncodingError(ServiceError):
    """The body cannot be unpacked as its Content-Encoding says."""

    def __init__(self) -> None:
        super().__init__("the body is damaged: it cannot be unpacked as its Content-Encoding says")


class UnsupportedEncodingError(ServiceError):
    """A Content-Encoding that is not known here."""

    def __init__(self) -> None:
        super().__init__("the Content-Encoding of the body is unknown; send it as it is, gzip or deflate")


class UnknownVersionError(ServiceError):
    """The identity has another decoder than the one asked for."""

    def __init__(self, identity: str, version: str) -> None:
        super().__init__(f"identity {identity!r} is served in version {version!r} only")


class BodyTooLargeError(ServiceError):
    """The body has more bytes than the service takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit} bytes; send a smaller photo")


class BodyTimeoutError(ServiceError):
    """The body did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the body did not arrive within {seconds:g} s; send a smaller photo")


class BodyMadeRoomError(ServiceError):
    """The body came slowly while the service was full of such."""

    def __init__(self) -> None:
        super().__init__(
            "the body came too slowly while the service was full; try again, or send a smaller photo"
        )


class InvalidParameterError(ServiceError):
    """A parameter is missing, unknown or out of range."""


class NoPreviewError(ServiceError):
    """The identity has no preview picture in the bundle."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the bundle has no preview picture of {name!r}")


class NotFoundError(ServiceError):
    """Nothing lives at this address."""

    def __init__(self) -> None:
        super().__init__("there is nothing at this address; GET /openapi.json lists what there is")


class MethodNotAllowedError(ServiceError):
    """The address exists, the method does not."""

    def __init__(self) -> None:
        super().__init__("this address does not take that method; the Allow header says which it takes")


class ForeignPageError(ServiceError):
    """A page of another site wants to open a stream."""

    def __init__(self, setting: str = "FACESWAPD_STREAM_ORIGINS") -> None:
        super().__init__(f"this page comes from another site than the service; {setting} may allow it")


class ForeignFormError(ForeignPageError):
    """A page of another site sends something."""

    def __init__(self) -> None:
        super().__init__("FACESWAPD_CORS_ORIGINS")


class StreamsFullError(ServiceError):
    """As many streams are open as the service takes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} streams are open, which is as many as the service takes; try again later")


class QueueFullError(ServiceError):
    """Every place is taken."""

    def __init__(self) -> None:
        super().__init__("the service is working on as many photos as it can hold; try again soon")


class DeadlineError(ServiceError):
    """The answer was not there in time."""

    def __init__(self) -> None:
        super().__init__("the swap was not done in time; try again, or send a smaller photo")


class StartingError(ServiceError):
    """The networks are not warmed yet, or could not be."""

    def __init__(self) -> None:
        super().__init__("the service is loading its networks; try again in a moment")


class DrainingError(ServiceError):
    """The service was told to stop and takes no new work."""

    def __init__(self) -> None:
        super().__init__("the service is stopping; send the request to another one, or again later")


class NotLiveError(ServiceError):
    """A thread that runs the networks has died or hangs: the process should be restarted."""

    def __init__(self, dead: Iterable[str]) -> None:
        super().__init__(f"these workers have stopped: {', '.join(dead)}; restart the service")


class DeviceGoneError(NotLiveError):
    """CUDA has failed: only a new process gets the device back."""

    def __init__(self) -> None:
        ServiceError.__init__(self, "the device has failed; restart the service")


class AdminClosedError(ServiceError):
    """The service was started without an admin key."""

    def __init__(self) -> None:
        super().__init__("the service has no admin key; start it with FACESWAPD_ADMIN_KEY to use /admin")


class AdminKeyError(ServiceError):
    """The request does not have the admin key."""

    def __init__(self) -> None:
        super().__init__("/admin needs the header 'Authorization: Bearer KEY' with the service's admin key")


class KeyMissingError(ServiceError):
    """The service has keys, the request has none."""

    def __init__(self) -> None:
        super().__init__("an API key is needed: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")


class KeyWrongError(ServiceError):
    """A key that the service does not know, or no longer."""

    def __init__(self) -> None:
        super().__init__("the API key is unknown, revoked or expired; ask the service's operator for one")


class KeyScopeError(ServiceError):
    """A key that is for something else."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"the API key does not have the scope '{scope}' that this address needs")


class RateLimitError(ServiceError):
    """More faces than this key or address may ask for."""

    def __init__(self, policy: str, wait_s: int) -> None:
        super().__init__(f"this {policy} has asked for as many faces as it may; try again in {wait_s} s")
        self.retry_after_s = wait_s


class HeadTimeoutError(ServiceError):
    """The head of a request did not arrive in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the head of the request did not arrive within {seconds:g} s")


class HandlerTimeoutError(ServiceError):
    """The answer did not begin in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer could be begun within {seconds:g} s; try again later")


class ConnectionsFullError(ServiceError):
    """As many connections are busy as the service, or one address, may have."""

    def __init__(self) -> None:
        super().__init__("as many connections are busy as the service takes; close some, or try again later")


class ReloadRunningError(ServiceError):
    """One reload at a time."""

    def __init__(self) -> None:
        super().__init__("another reload is under way; ask again when it is done")


class ReloadRefusedError(ServiceError):
    """The folder holds no bundle that can be served; the old one goes on."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(f"the bundle was not reloaded, the old one goes on: {reason}")


class SigningError(ServiceError):
    """The certificate or key cannot sign; at the start the message is shown, later only logged."""


class InternalError(ServiceError):
    """Anything that nobody expected."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A row of the table; `detail`, where given, is said instead of the exception's own text.

    `challenge` is what WWW-Authenticate says: a 401 must have it (RFC 9110, 11.6.1), a 403 may.
    """

    status: int
    slug: str
    title: str
    retry_after_s: int | None = None
    detail: str | None = None
    challenge: str | None = None

    @property
    def type(self) -> str:
        return f"/problems/{self.slug}"


_REPLACED = "the service has lost its device and is ending; send the request again, or to another one"
_SEE_LOG = "the service could not do this; the request id finds the reason in its log"

TABLE: dict[type[Exception], Kind] = {
    BadMultipartError: Kind(400, "bad-multipart", "The multipart form cannot be read"),
    BadTensorError: Kind(400, "bad-tensor", "The tensors cannot be used"),
    BadEncodingError: Kind(400, "bad-encoding", "The body cannot be unpacked"),
    library.TruncatedImageError: Kind(400, "truncated-image", "The picture is cut off or damaged"),
    AdminKeyError: Kind(401, "admin-key", "The admin key is missing or wrong", challenge="Bearer"),
    KeyMissingError: Kind(401, "key-missing", "An API key is needed", challenge="Bearer"),
    KeyWrongError: Kind(
        401, "key-wrong", "The API key is not known", challenge='Bearer error="invalid_token"'
    ),
    AdminClosedError: Kind(403, "admin-closed", "The service has no admin key"),
    KeyScopeError: Kind(
        403, "key-scope", "The API key is for something else", challenge='Bearer error="insufficient_scope"'
    ),
    ForeignPageError: Kind(403, "foreign-page", "A page of another site"),
    library.UnknownIdentityError: Kind(404, "unknown-identity", "No such identity"),
    UnknownVersionError: Kind(404, "unknown-version", "No such version of the identity"),
    NoPreviewError: Kind(404, "no-preview", "No preview picture"),
    NotFoundError: Kind(404, "not-found", "Not found"),
    MethodNotAllowedError: Kind(405, "method-not-allowed", "Method not allowed"),
    HeadTimeoutError: Kind(408, "head-timeout", "The head came too slowly"),
    BodyTimeoutError: Kind(408, "body-timeout", "The body came too slowly"),
    BodyMadeRoomError: Kind(408, "body-made-room", "A slow body made room", retry_after_s=1),
    ReloadRunningError: Kind(409, "reload-running", "A reload is under way", retry_after_s=5),
    BodyTooLargeError: Kind(413, "body-too-large", "Too many bytes"),
    library.ImageTooLargeError: Kind(413, "image-too-large", "Too many pixels"),
    UnsupportedBodyError: Kind(415, "unsupported-body", "Neither a form nor a picture"),
    UnsupportedEncodingError: Kind(415, "unsupported-encoding", "Unknown Content-Encoding"),
    library.NotAnImageError: Kind(415, "not-an-image", "Not a JPEG, PNG or WebP picture"),
    NoImageError: Kind(422, "no-image", "No picture in the request"),
    InvalidParameterError: Kind(422, "invalid-parameter", "A parameter is missing or wrong"),
    library.WrongCropSizeError: Kind(422, "wrong-crop-size", "Not a ready 64x64 crop"),
    library.NoFaceError: Kind(422, "no-face", "No face found"),
    library.NoSuchFaceError: Kind(422, "no-such-face", "Fewer faces than asked for"),
    ReloadRefusedError: Kind(422, "reload-refused", "The bundle was not reloaded"),
    RateLimitError: Kind(429, "rate-limit", "Too many faces asked for", retry_after_s=1),
    # nginx's number: nobody is left to read the answer, but the log line should not count a failure
    ClientDisconnect: Kind(499, "client-gone", "The client left", detail="the client closed the connection"),
    InternalError: Kind(500, "internal-error", "Internal error", detail=_SEE_LOG),
    library.BundleError: Kind(500, "bundle-unusable", "The model bundle is damaged", detail=_SEE_LOG),
    library.DeviceLostError: Kind(
        503, "device-lost", "The device has failed", retry_after_s=5, detail=_REPLACED
    ),
    library.DeviceError: Kind(500, "device-failed", "The device cannot run the networks", detail=_SEE_LOG),
    SigningError: Kind(500, "signing-failed", "The picture could not be signed", detail=_SEE_LOG),
    QueueFullError: Kind(503, "queue-full", "The service is full", retry_after_s=1),
    ConnectionsFullError: Kind(503, "connections-full", "Too many connections", retry_after_s=1),
    StreamsFullError: Kind(503, "streams-full", "Too many streams", retry_after_s=5),
    StartingError: Kind(503, "starting", "Not ready yet", retry_after_s=1),
    DrainingError: Kind(503, "draining", "The service is stopping", retry_after_s=5),
    NotLiveError: Kind(503, "not-live", "A worker has stopped"),
    DeadlineError: Kind(504, "deadline", "Not done in time"),
    HandlerTimeoutError: Kind(504, "handler-timeout", "The answer did not begin in time"),
}


def kind_of(error: Exception) -> Kind:
    """The row of `error` or of its nearest parent; what is not in the table is an internal error."""
    rows = (TABLE[parent] for parent in type(error).__mro__ if parent in TABLE)
    return next(rows, TABLE[InternalError])
