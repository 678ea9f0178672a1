"""faceswap_client: a faceswapd service from Python. httpx and websockets, nothing else of this repository."""

from faceswap_client.answers import Consent, Face, Failure, Health, Identity, Picture, Result
from faceswap_client.async_client import AsyncClient
from faceswap_client.blocking import BlockingStream
from faceswap_client.client import Client
from faceswap_client.errors import (
    BrokenAnswerError,
    BusyError,
    FaceswapdError,
    KeyRefusedError,
    NoFaceError,
    ParameterError,
    PhotoError,
    ProblemError,
    ServerError,
    StreamClosedError,
    TimedOutError,
    UnknownIdentityError,
    UnreachableError,
)
from faceswap_client.questions import Photo, Wishes
from faceswap_client.retrying import NEVER, Retries
from faceswap_client.streaming import Frame, FrameFailure, Stream

__all__ = [
    "NEVER",
    "AsyncClient",
    "BlockingStream",
    "BrokenAnswerError",
    "BusyError",
    "Client",
    "Consent",
    "Face",
    "FaceswapdError",
    "Failure",
    "Frame",
    "FrameFailure",
    "Health",
    "Identity",
    "KeyRefusedError",
    "NoFaceError",
    "ParameterError",
    "Photo",
    "PhotoError",
    "Picture",
    "ProblemError",
    "Result",
    "Retries",
    "ServerError",
    "Stream",
    "StreamClosedError",
    "TimedOutError",
    "UnknownIdentityError",
    "UnreachableError",
    "Wishes",
]
