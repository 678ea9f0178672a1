"""deploy/grafana.json and deploy/alerts.yml name only what a running service tells at /metrics."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.server import HOST, serving
from tests.deploy.conftest import ROOT

METRIC = re.compile(r"\b(?:http_server|swap|process)_\w+")
OPERATE = (ROOT / "docs" / "operate.md").read_text()


def rules() -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml", reason="pyyaml is in the dev extra")
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    return board


def expressions() -> list[str]:
    queries = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    return [*queries, *(rule["expr"] for rule in rules())]


@pytest.fixture(scope="module")
def told(identity_bundle: Path) -> Iterator[str]:
    """/metrics of a service that was just started."""
    with serving(identity_bundle, "cpu") as server:
        connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        connection.request("GET", "/metrics")
        yield connection.getresponse().read().decode()
        connection.close()


def exposed(text: str) -> set[str]:
    """Names of samples; a histogram's three."""
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        names |= {name + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {name}
    return names


def test_every_metric_that_they_name_is_told_by_a_running_service(told: str) -> None:
    named = {
        name for text in expressions() for name in METRIC.findall(re.sub(r"faceswapd:\w+:\w+", "", text))
    }
    assert len(named) >= 25
    assert named - exposed(told) == set()


def test_every_metric_that_the_service_tells_is_in_the_manual_and_the_other_way_round(told: str) -> None:
    names = {
        name for name in re.findall(r"^# TYPE (\S+)", told, re.MULTILINE) if not name.endswith("_created")
    }
    rows = set(re.findall(r"^\| `((?:http_server|swap|process)_\w+)", OPERATE, re.MULTILINE))
    assert rows == names


def test_every_alert_has_a_summary_and_a_row_in_the_manual() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 12
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]
    rows = set(re.findall(r"^\| `(Faceswapd\w+)` \|", OPERATE, re.MULTILINE))
    assert rows == {alert["alert"] for alert in alerts}


def test_the_panels_lie_beside_each_other() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in dashboard()["panels"]]
    assert len(set(places)) == len(places) >= 15
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(places)


def test_buckets_that_alerts_ask_for_are_there() -> None:
    from service.metrics import REQUEST_SECONDS

    asked = {float(le) for text in expressions() for le in re.findall(r'le="([\d.]+)"', text)}
    assert asked and asked <= set(REQUEST_SECONDS)
