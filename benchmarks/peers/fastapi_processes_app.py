"""Plain FastAPI once more, by uvicorn's --workers: a process for each worker, with one thread."""

from __future__ import annotations

import uvicorn

from benchmarks.peers.fastapi_app import create
from benchmarks.peers.work import WORKERS, host, port

app = create(1)

if __name__ == "__main__":
    uvicorn.run(f"{__spec__.name}:app", host=host(), port=port(), access_log=False, workers=WORKERS)
