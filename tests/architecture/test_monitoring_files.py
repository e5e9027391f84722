"""Dashboards and alerts in deploy/ ask for nothing that no worker reports."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from promptmill.settings import Settings
from worker.telemetry.fleet import FleetCollector
from worker.telemetry.names import COUNTED, SHARED

DEPLOY = Path(__file__).parents[2] / "deploy"
NAME = re.compile(r"\bpromptmill_[a-z_]+")
GROUPED = re.compile(r"\b(?:by|without|on|ignoring) \(([^)]+)\)")
MATCHED = re.compile(r"[{,] ?([a-z_]+)[!=]~?=?\"")
LABELS_OF_PROMETHEUS = {"le", "job", "instance"}


SUFFIXES = {
    "counter": ["_total"],
    "gauge": [""],
    "summary": ["_sum", "_count"],
    "histogram": ["_bucket", "_sum", "_count"],
}
REPORTED = {
    f"{name}{suffix}" for name, it in {**COUNTED, **SHARED}.items() for suffix in SUFFIXES[it.type]
}  # fmt: skip
LABELS = {*LABELS_OF_PROMETHEUS, *(label for it in (*COUNTED.values(), *SHARED.values()) for label in it.labels)}


def test_what_is_shared_is_reported_as_it_is_described():
    settings = Settings(redis_url="redis://127.0.0.1:1", store_url="sqlite:////nowhere/at/all.sqlite")
    told = {family.name: (family.type, family.documentation) for family in FleetCollector(settings).collect()}
    assert told == {name: (it.type, it.says) for name, it in SHARED.items()}


def expressions(file):
    text = (DEPLOY / file).read_text()
    if file.endswith(".json"):
        return [target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"]]
    return re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/promptmill.json"])
def test_every_metric_and_label_that_is_asked_for_is_reported(file):
    asked = expressions(file)
    assert asked
    assert set(NAME.findall(" ".join(asked))) <= REPORTED
    chosen = {label for labels in GROUPED.findall(" ".join(asked)) for label in re.split(r"[,\s]+", labels.strip())}
    matched = set(MATCHED.findall(" ".join(asked)))
    assert chosen | matched <= LABELS


def test_the_dashboard_is_one_that_grafana_reads():
    dashboard = json.loads((DEPLOY / "grafana/promptmill.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
