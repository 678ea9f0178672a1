"""Plain FastAPI: an async route that hands the work to a pool of two threads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request, Response

from benchmarks.peers.work import PNG, WORKERS, Work, host, port


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.work, app.state.threads = Work(), CapacityLimiter(app.state.limit)
    yield


def create(threads: int) -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.state.limit = threads

    @app.post("/swap")
    async def swap(request: Request) -> Response:
        state = request.app.state
        face = await to_thread.run_sync(state.work.swap, await request.body(), limiter=state.threads)
        return Response(face, media_type=PNG)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ready"}

    return app


if __name__ == "__main__":
    uvicorn.run(create(WORKERS), host=host(), port=port(), access_log=False)
