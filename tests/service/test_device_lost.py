"""CUDA that fails under the service: told, drained, ended; never a silent change to the CPU."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faceswap import Swapper
from faceswap.bundle import Bundle
from faceswap.cuda import CudaOptions
from faceswap.detection import LibFaceDetection
from faceswap.sessions import Device, SessionFactory
from service.app import create_app
from service.settings import Settings
from tests.faceswap.computing_on_cuda import ComputingOnCuda
from tests.faceswap.fake_onnxruntime import CUDA, Fail, RuntimeException
from tests.service.fakes import parts_of, photo, post, serving
from tests.service.test_problems import expect

ROOT = Path(__file__).parents[2]

LOSING = """
import sys
from faceswap.errors import DeviceLostError
from service import logs
from service.__main__ import bind, serve
from service.settings import Settings
from tests.service.fakes import FakeSwapper

logs.configure(Settings().log_level, Settings().log_format)
swapper = FakeSwapper()

def lose(crops):
    swapper.failure = "CUDA failure 700: an illegal memory access was encountered"
    raise DeviceLostError(swapper.failure)

swapper.on_encode = lose
settings = Settings(port=0, workers=1)
sys.exit(serve(settings, swapper, bind(settings.host, settings.port)))
"""
"""A service that loses its device with the first photo."""


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        Fail("CUDA failure 700: an illegal memory access was encountered"),
        RuntimeException("Failed to allocate memory for requested buffer of size 15728896"),
    ],
    ids=["error", "out of memory"],
)
async def test_a_failing_card_turns_live_and_ready_red(identity_bundle: Path, error: Exception) -> None:
    runtime = ComputingOnCuda(identity_bundle)
    factory = SessionFactory("cuda", 1, runtime, CudaOptions(4), lambda: None)
    swapper = Swapper(Bundle.open(identity_bundle), factory, LibFaceDetection())
    app = create_app(Settings(device=Device.CUDA, max_batch=4), swapper)
    async with serving(app) as client:
        assert (await post(client, target="echo", crop="none")).status_code == 200
        runtime.sessions[0].answer = error
        answer = expect(await post(client, target="echo", crop="none"), "device-lost")
        assert "CUDA failure" not in str(answer), "the client need not know"
        expect(await client.get("/health/live"), "not-live")
        expect(await client.get("/health/ready"), "not-live")
        assert swapper.provider == parts_of(app).swapper.provider == CUDA
    assert {session.provider for session in runtime.sessions} == {CUDA}


def test_the_process_answers_and_ends_so_that_a_supervisor_starts_another() -> None:
    child = subprocess.Popen([sys.executable, "-c", LOSING], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        port = re.search(r"localhost:(\d+)", child.stdout.readline())
        assert port is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=30)
        connection.request("POST", "/swap?target=echo", photo(), {"Content-Type": "image/png"})
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("Retry-After")) == (503, "5")
        assert b"/problems/device-lost" in answer.read()
        connection.close()
        assert child.wait(30) == 2
    finally:
        child.kill()
        child.communicate()
