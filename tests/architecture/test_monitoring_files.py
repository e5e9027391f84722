"""Dashboards and alerts in deploy/ ask for nothing that no worker reports."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from promptmill.settings import Settings
from worker.telemetry.fleet import FleetCollector
from worker.telemetry.meters import PrometheusMeters

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = re.compile(r"\bpromptmill_[a-z_]+")


@pytest.fixture(scope="module")
def reported():
    registry = CollectorRegistry()
    PrometheusMeters(registry)
    ours = {suffixed for name in registry._names_to_collectors for suffixed in (name, f"{name}_bucket")}
    settings = Settings(redis_url="redis://127.0.0.1:1", store_url="sqlite:////nowhere/at/all.sqlite")
    return ours | {family.name for family in FleetCollector(settings).collect()}


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/promptmill.json"])
def test_every_metric_that_is_asked_for_is_reported(file, reported):
    asked = set(NAME.findall((DEPLOY / file).read_text())) - {"promptmill_dead_letters"}  # away without a store
    assert asked
    assert asked <= reported


def test_the_dashboard_is_one_that_grafana_reads():
    dashboard = json.loads((DEPLOY / "grafana/promptmill.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
