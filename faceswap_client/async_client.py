"""AsyncClient: the service from async Python."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, Self, Unpack

import anyio
import httpx
from anyio import to_thread

from faceswap_client import answers, questions, streaming
from faceswap_client.answers import Health, Identity, Picture, Result, Summary
from faceswap_client.errors import BrokenAnswerError
from faceswap_client.questions import Photo, Question, Wishes
from faceswap_client.retrying import NEVER, Retries, failed, settled
from faceswap_client.streaming import Stream
from faceswap_client.wire import DEFAULT_URL, NOT_READY, http_settings, is_picture, key_header


class AsyncClient:
    """Talks to one service over kept connections; as many swaps at once as you like.

    >>> async with AsyncClient("http://localhost:8000") as client:
    ...     picture = await client.swap("me.jpg", "will")

    The same as `Client` in all but `async`. Runs on asyncio; but for streams, on trio too.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: Retries | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries or Retries()
        self._url, self._api_key, self._timeout = url, api_key, timeout
        self._http = httpx.AsyncClient(**http_settings(url, api_key, timeout), transport=transport)

    async def swap(self, photo: Photo, target: str, **wishes: Unpack[Wishes]) -> Picture:
        """The swapped face, or with output="photo" the photo with that face set into it."""
        data = await to_thread.run_sync(questions.read, photo)
        answer = await self._ask(questions.swap(data, target, wishes))
        return answers.picture_of(answer.headers, answer.content, target)

    async def swap_each(
        self, photo: Photo, targets: Iterable[str], **wishes: Unpack[Wishes]
    ) -> AsyncGenerator[Result, None]:
        """One photo, several targets: a `Picture` or a `Failure` for each as soon as it is done.

        The photo is read, searched and encoded once. What is wrong with the photo itself is raised.
        """
        names = questions.names(targets)
        data = await to_thread.run_sync(questions.read, photo)
        async for result in self._results(questions.swap_each(data, names, wishes), names):
            yield result

    async def batch(
        self, photos: Iterable[Photo], targets: str | Iterable[str], **wishes: Unpack[Wishes]
    ) -> AsyncGenerator[Result, None]:
        """Many photos, one or several targets: a `Picture` or a `Failure` for each pair, as they are done.

        `image` of a result tells which photo. The service bounds a batch (100 photos by default). It is
        asked when the first result is taken; close the iterator (`contextlib.aclosing`) to stop the rest.
        """
        names = questions.names(targets)
        data = [await to_thread.run_sync(questions.read, photo) for photo in photos]
        async for result in self._results(questions.batch(data, names, wishes), names):
            yield result

    def stream(
        self, target: str, *, output: Literal["face", "photo"] = "photo", face: int = 0
    ) -> AbstractAsyncContextManager[Stream]:
        """Live video: `async with client.stream("will") as stream`, then `stream.swap(frames)`."""
        query = {"target": target, "output": output, "face": str(face)}
        return streaming.opened(self._url, key_header(self._api_key), query, self._timeout)

    async def identities(self) -> list[Identity]:
        """Who can be swapped in."""
        answer = await self._ask(questions.get("/identities"))
        return [Identity.of(facts) for facts in answer.json()["identities"]]

    async def identity(self, name: str) -> Identity:
        """With all that the bundle tells, in `facts`. UnknownIdentityError."""
        return Identity.of((await self._ask(questions.identity(name))).json())

    async def preview(self, name: str) -> bytes:
        """A PNG of the identity; a ProblemError with the slug `no-preview` where it has none."""
        return (await self._ask(questions.identity(name, "/preview"))).content

    async def health(self) -> Health:
        """How the service is, for people."""
        return Health.of((await self._ask(questions.get("/health"))).json())

    async def ready(self) -> bool:
        """Would it swap now? Asks once; False also where nobody answers."""
        try:
            await self._ask(questions.get("/health/ready"), NEVER)
        except NOT_READY:
            return False
        return True

    async def aclose(self) -> None:
        """Lets the connections go."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _ask(self, question: Question, retries: Retries | None = None) -> httpx.Response:
        answer = await self._begin(question, retries or self._retries)
        try:
            await answer.aread()
        except httpx.HTTPError as error:
            raise failed(error) from error
        finally:
            await answer.aclose()
        return answer

    async def _begin(self, question: Question, retries: Retries) -> httpx.Response:
        """An answer whose body is still to come. Tries again as `retries` says; raises what is no success."""
        made = 0
        while True:
            outcome = await self._try(question)
            made += 1
            pause = retries.pause(made, outcome)
            if pause is None:
                return settled(outcome)
            await anyio.sleep(pause)

    async def _try(self, question: Question) -> httpx.Response | httpx.HTTPError:
        try:
            request = self._http.build_request(question.method, question.path, **question.options)
            answer = await self._http.send(request, stream=True)
            if not answer.is_success:
                await answer.aread()
        except httpx.HTTPError as error:
            return error
        return answer

    async def _results(self, question: Question, names: list[str]) -> AsyncGenerator[Result, None]:
        answer = await self._begin(question, self._retries)
        try:
            if is_picture(answer):  # one target of one photo is answered so
                yield answers.picture_of(answer.headers, await answer.aread(), names[0])
                return
            async for line in answer.aiter_lines():
                result = answers.result_of(line, answer.headers.get("x-request-id", ""))
                if isinstance(result, Summary):
                    return
                yield result
            raise BrokenAnswerError("the answer breaks off: its summary is missing")
        except httpx.HTTPError as error:
            raise failed(error) from error
        finally:
            await answer.aclose()
