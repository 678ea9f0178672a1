"""FACESWAPD_*: read, checked, and listed in docs/api.md."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from faceswap.sessions import available_cores
from service.__main__ import StartError, bind, read_settings
from service.errors import TABLE
from service.settings import Settings, unknown_variables

API = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def test_the_environment_is_read_and_options_overrule_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESWAPD_PORT", "1234")
    monkeypatch.setenv("FACESWAPD_DEADLINE_MS", "77")
    assert (Settings().port, Settings().deadline_ms) == (1234, 77)
    assert read_settings(["--port", "4321", "--bundle", "x"]).port == 4321


def test_by_default_only_this_machine_is_served() -> None:
    assert Settings().host == "127.0.0.1"


def test_a_wrong_setting_is_one_line_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESWAPD_PORT", "SECRET")
    monkeypatch.setenv("FACESWAPD_MAX_BATCH", "0")
    with pytest.raises(StartError) as caught:
        read_settings([])
    text = str(caught.value)
    assert "FACESWAPD_PORT: " in text and "FACESWAPD_MAX_BATCH: " in text
    assert "\n" not in text and "SECRET" not in text


def test_names_that_nothing_reads_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACESWAPD_MAX_BACH", "3")
    monkeypatch.setenv("FACESWAPD_HOST", "127.0.0.1")
    assert unknown_variables() == ["FACESWAPD_MAX_BACH"]


def test_workers_and_batches_follow_the_provider() -> None:
    settings = Settings()
    assert settings.worker_count("CPUExecutionProvider") == available_cores()
    assert settings.worker_count("CUDAExecutionProvider") == 1
    assert settings.batch_limit("CPUExecutionProvider") < settings.batch_limit("CUDAExecutionProvider")
    assert Settings(workers=5).worker_count("CUDAExecutionProvider") == 5


def test_lone_runs_take_the_threads_of_all_workers_and_of_no_other_process() -> None:
    assert Settings(workers=3).lone_thread_count() == 3
    assert Settings(workers=9).lone_thread_count() == 4
    assert Settings(workers=9, lone_threads=9).lone_thread_count() == 9
    assert Settings(workers=3, processes=2).lone_thread_count() == 1


def test_a_port_in_use_is_told() -> None:
    with bind("127.0.0.1", 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
            bind("127.0.0.1", port)


def test_the_docs_list_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `FACESWAPD_(\w+)` \| `?([^|`]*)`? \|", API, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if field.default not in (None, ()):
            assert rows[name.upper()].replace(",", "").strip() == _shown(field.default), name


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default).removesuffix(".0")


def test_the_docs_list_every_error_with_its_status() -> None:
    rows = {
        slug: int(status) for slug, status in re.findall(r"^\| `/problems/([\w-]+)` \| (\d+) \|", API, re.M)
    }
    assert rows == {kind.slug: kind.status for kind in TABLE.values()}


def test_the_listener_names_tcp_so_that_asyncio_sets_nodelay() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP
