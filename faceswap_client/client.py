"""Client: the service from ordinary Python."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Literal, Self, Unpack

import httpx

from faceswap_client import answers, questions
from faceswap_client.answers import Health, Identity, Picture, Result, Summary
from faceswap_client.blocking import BlockingStream, blocking
from faceswap_client.errors import BrokenAnswerError
from faceswap_client.questions import Photo, Question, Wishes
from faceswap_client.retrying import NEVER, Retries, failed, settled
from faceswap_client.streaming import opened
from faceswap_client.wire import DEFAULT_URL, NOT_READY, http_settings, is_picture, key_header


class Client:
    """Talks to one service over kept connections; may be shared by threads.

    >>> with Client("http://localhost:8000") as client:
    ...     client.swap("me.jpg", "will").save("will.png")

    `api_key` is sent as `Authorization: Bearer ...`. `timeout` is how many seconds the service may be
    silent. `retries` says how often a full service is asked again; `NEVER` is for those who do not wait.
    Everything raised is a `FaceswapdError`, but for files that cannot be read.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._url, self._api_key, self._timeout = url, api_key, timeout
        self._http = httpx.Client(**http_settings(url, api_key, timeout), transport=transport)

    def swap(self, photo: Photo, target: str, **wishes: Unpack[Wishes]) -> Picture:
        """The swapped face, or with output="photo" the photo with that face set into it."""
        answer = self._ask(questions.swap(questions.read(photo), target, wishes))
        return answers.picture_of(answer.headers, answer.content, target)

    def swap_each(
        self, photo: Photo, targets: Iterable[str], **wishes: Unpack[Wishes]
    ) -> Generator[Result, None, None]:
        """One photo, several targets: a `Picture` or a `Failure` for each as soon as it is done.

        The photo is read, searched and encoded once. What is wrong with the photo itself is raised.
        """
        names = questions.names(targets)
        return self._results(questions.swap_each(questions.read(photo), names, wishes), names)

    def batch(
        self, photos: Iterable[Photo], targets: str | Iterable[str], **wishes: Unpack[Wishes]
    ) -> Generator[Result, None, None]:
        """Many photos, one or several targets: a `Picture` or a `Failure` for each pair, as they are done.

        `image` of a result tells which photo. The service bounds a batch (100 photos by default). It is
        asked when the first result is taken; close the iterator, or let it end, to stop the rest.
        """
        names = questions.names(targets)
        data = [questions.read(photo) for photo in photos]
        return self._results(questions.batch(data, names, wishes), names)

    def stream(
        self, target: str, *, output: Literal["face", "photo"] = "photo", face: int = 0
    ) -> AbstractContextManager[BlockingStream]:
        """Live video: `with client.stream("will") as stream`, then `stream.swap(frames)`."""
        query = {"target": target, "output": output, "face": str(face)}
        return blocking(opened(self._url, key_header(self._api_key), query, self._timeout))

    def identities(self) -> list[Identity]:
        """Who can be swapped in."""
        return [Identity.of(facts) for facts in self._ask(questions.get("/identities")).json()["identities"]]

    def identity(self, name: str) -> Identity:
        """With all that the bundle tells, in `facts`. UnknownIdentityError."""
        return Identity.of(self._ask(questions.identity(name)).json())

    def preview(self, name: str) -> bytes:
        """A PNG of the identity; a ProblemError with the slug `no-preview` where it has none."""
        return self._ask(questions.identity(name, "/preview")).content

    def health(self) -> Health:
        """How the service is, for people."""
        return Health.of(self._ask(questions.get("/health")).json())

    def ready(self) -> bool:
        """Would it swap now? Asks once; False also where nobody answers."""
        try:
            self._ask(questions.get("/health/ready"), NEVER)
        except NOT_READY:
            return False
        return True

    def close(self) -> None:
        """Lets the connections go."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, question: Question, retries: Retries | None = None) -> httpx.Response:
        answer = self._begin(question, retries or self._retries)
        try:
            answer.read()
        except httpx.HTTPError as error:
            raise failed(error) from error
        finally:
            answer.close()
        return answer

    def _begin(self, question: Question, retries: Retries) -> httpx.Response:
        """An answer whose body is still to come. Tries again as `retries` says; raises what is no success."""
        made = 0
        while True:
            outcome = self._try(question)
            made += 1
            pause = retries.pause(made, outcome)
            if pause is None:
                return settled(outcome)
            time.sleep(pause)

    def _try(self, question: Question) -> httpx.Response | httpx.HTTPError:
        try:
            request = self._http.build_request(question.method, question.path, **question.options)
            answer = self._http.send(request, stream=True)
            if not answer.is_success:
                answer.read()
        except httpx.HTTPError as error:
            return error
        return answer

    def _results(self, question: Question, names: list[str]) -> Generator[Result, None, None]:
        answer = self._begin(question, self._retries)
        try:
            if is_picture(answer):  # one target of one photo is answered so
                yield answers.picture_of(answer.headers, answer.read(), names[0])
                return
            for line in answer.iter_lines():
                result = answers.result_of(line, answer.headers.get("x-request-id", ""))
                if isinstance(result, Summary):
                    return
                yield result
            raise BrokenAnswerError("the answer breaks off: its summary is missing")
        except httpx.HTTPError as error:
            raise failed(error) from error
        finally:
            answer.close()
