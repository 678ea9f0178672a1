"""Many photos and targets of one request: a few at a time, so that single swaps go on beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from service.admission import Admission
from service.errors import BodyTooLargeError
from service.schemas import SwapQuery
from service.swapping import Result, SwapPipeline


class BatchPipeline:
    """Runs the photos of all batches, `share` of them at once."""

    def __init__(self, admission: Admission, share: int, max_body_bytes: int) -> None:
        self._admission = admission
        self._share = share
        self._lane = asyncio.Semaphore(share)
        self._max_body_bytes = max_body_bytes

    async def swap(
        self, pipeline: SwapPipeline, photos: Sequence[bytes], query: SwapQuery
    ) -> AsyncGenerator[Result, None]:
        """A result for every photo and target, in the order in which they are done.

        All come from the bundle of `pipeline`, which knows the targets, whatever is served meanwhile.
        Nothing is raised: what fails is a result. No more than `share` results wait to be taken. Close
        it to stop the work.
        """
        done: asyncio.Queue[Result] = asyncio.Queue(self._share)
        waiting = iter(enumerate(photos))
        with pipeline.held(query.target):
            runners = [
                asyncio.create_task(self._run(pipeline, waiting, query, done))
                for _ in range(min(self._share, len(photos)))
            ]
            try:
                for _ in range(len(photos) * len(query.target)):
                    yield await done.get()
            finally:
                for runner in runners:
                    runner.cancel()
                await asyncio.gather(*runners, return_exceptions=True)

    async def _run(
        self,
        pipeline: SwapPipeline,
        waiting: Iterator[tuple[int, bytes]],
        query: SwapQuery,
        done: asyncio.Queue[Result],
    ) -> None:
        for index, photo in waiting:
            async with self._lane, self._admission.patient_place(len(query.target)):
                left = list(query.target)
                try:
                    async with aclosing(self._swap_each(pipeline, photo, query)) as results:
                        async for result in results:
                            left.remove(result.target)
                            await done.put(replace(result, image=index))
                except Exception as error:
                    for target in left:
                        await done.put(Result(target, error, index))

    def _swap_each(
        self, pipeline: SwapPipeline, photo: bytes, query: SwapQuery
    ) -> AsyncGenerator[Result, None]:
        if len(photo) > self._max_body_bytes:
            raise BodyTooLargeError(self._max_body_bytes)
        return pipeline.swap_each(photo, query)
