"""The files for Prometheus and Grafana in config/: they name what there is, and are explained."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from prometheus_client.parser import text_string_to_metric_families

from worker import metrics
from worker.bootstrap import service
from worker.bootstrap.runner import open_runner
from worker.gateway.metrics import Metrics
from worker.gateway.routes import ROUTES
from worker.queueing.fate import Fate
from worker.queueing.intake import Lengths
from worker.queueing.pulse import Pulse
from worker.settings import HashingSettings, Settings

_ROOT = Path(__file__).parents[2]
_CONFIG = _ROOT / "config"
_ALERTS = _CONFIG / "prometheus-alerts.yml"

# Prometheus' own label of each target; and one more series about each.
_JOBS = {"hash-worker", "hash-worker-gateway"}
_SERIES = re.compile(r"\b(hash_worker_\w+|process_\w+|up)\b(?:\{([^}]*)\})?")
_EQUALS = re.compile(r'(\w+)="([^"]*)"')

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool, of Prometheus, is not installed"
)

Known = dict[str, dict[str, set[str]]]
"""Metrics by name; of each its labels, and the values of these."""


@pytest_asyncio.fixture
async def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    """Give the metrics that a worker and a gateway tell, each by its own code."""
    monkeypatch.setattr(metrics, "_TOLD", {})
    settings = Settings(hashing=HashingSettings(lanes=1, slots=2, slot_bytes=1 << 16))
    gateway = Metrics()
    for route in ROUTES:
        gateway.note(route.path, route.method, 200, 0.1)
    lengths = Lengths(
        {"hashing": 0, "hashing.batches": 0},
        taken=0,
        undelivered=0,
        oldest_undelivered_seconds=0,
        dead_letters=0,
    )
    service._serve_health(settings.health, Pulse())
    async with open_runner(settings):
        texts = metrics.text(), gateway.text(lengths)
    found: Known = {"up": {"job": _JOBS}}
    for job, text in zip(("hash-worker", "hash-worker-gateway"), texts, strict=True):
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {"job": set()})
                labels["job"].add(job)
                for name, value in sample.labels.items():
                    labels.setdefault(name, set()).add(value)
    # A fate is told from its first message on.
    (tasks,) = metrics.TASKS.describe()
    found[f"{tasks.name}_total"] = {"fate": {fate.value for fate in Fate}}
    return found


def alerts() -> list[dict[str, Any]]:
    """Read the rules."""
    groups = yaml.safe_load(_ALERTS.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Read the dashboard's panels, rows included."""
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def dashboard() -> dict[str, Any]:
    """Read the dashboard."""
    document: dict[str, Any] = json.loads((_CONFIG / "grafana-dashboard.json").read_text(encoding="utf-8"))
    return document


def shown() -> list[str]:
    """Give the expressions of all panels."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def unknown(expressions: Iterable[str], known: Known) -> list[str]:
    """Give each metric, and each label's value, that nobody tells."""
    wrong = []
    for expression in expressions:
        for name, matchers in _SERIES.findall(expression):
            labels = known.get(name)
            if labels is None:
                wrong.append(name)
                continue
            equals = _EQUALS.findall(matchers)
            wrong += [
                f'{name}{{{key}="{value}"}}' for key, value in equals if value not in labels.get(key, ())
            ]
    return wrong


def headings_of(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub makes them of a single word."""
    return set(re.findall(r"^#+ (\w+)$", page.read_text(encoding="utf-8").lower(), re.MULTILINE))


def test_every_alert_is_over_metrics_that_are_told(known: Known) -> None:
    """An alert over a name that nobody tells never fires."""
    wrong = unknown([rule["expr"] for rule in alerts()], known)

    assert not wrong


def test_every_panel_is_over_metrics_that_are_told(known: Known) -> None:
    """And so stays empty no panel."""
    wrong = unknown(shown(), known)

    assert shown()
    assert not wrong


def test_a_metric_that_nobody_tells_and_a_wrong_value_are_found(known: Known) -> None:
    """Or the two tests above would hold for anything."""
    right = 'sum(rate(hash_worker_jobs_total{result="FAILED"}[5m]))'
    wrong = 'hash_worker_jobs + on() hash_worker_jobs_total{result="failed"} / up{job="worker"}'

    found = unknown([right, wrong], known)

    assert found == ["hash_worker_jobs", 'hash_worker_jobs_total{result="failed"}', 'up{job="worker"}']


def test_every_alert_says_how_bad_it_is_and_where_it_is_explained() -> None:
    """Its section in the operator's page is headed by its name, and is linked."""
    headings = headings_of(_ROOT / "docs" / "operations.md")

    for rule in alerts():
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith(f"docs/operations.md#{rule['alert'].lower()}")
        assert rule["alert"].lower() in headings


def test_every_section_about_an_alert_is_about_one_that_there_is() -> None:
    """An alert that is gone takes its section along."""
    sections = {
        name for name in headings_of(_ROOT / "docs" / "operations.md") if name.startswith("hashworker")
    }

    assert sections == {rule["alert"].lower() for rule in alerts()}


def test_the_scrape_example_names_the_jobs_that_alerts_ask_for() -> None:
    """And reads the alerts' file, which lies beside it."""
    document = yaml.safe_load((_CONFIG / "prometheus.yml").read_text(encoding="utf-8"))

    assert {scrape["job_name"] for scrape in document["scrape_configs"]} == _JOBS
    assert document["rule_files"] == [_ALERTS.name]


def test_no_panel_lies_on_another_or_has_anothers_id() -> None:
    """Grafana would show one of the two."""
    every = panels()
    places = [panel["gridPos"] for panel in every]

    taken = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len({panel["id"] for panel in every}) == len(every)
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


def test_every_panel_has_a_unit_and_asks_the_source_that_was_chosen() -> None:
    """The dashboard is for any Prometheus."""
    (source,) = dashboard()["templating"]["list"]
    chosen = {"type": source["query"], "uid": f"${{{source['name']}}}"}

    for panel in panels():
        if panel["type"] == "row":
            continue
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert [panel["datasource"], *(target["datasource"] for target in panel["targets"])] == [
            chosen for _ in range(1 + len(panel["targets"]))
        ]


@needs_promtool
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "prometheus-alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "prometheus-alerts-test.yml"),
    ],
    ids=" ".join,
)
def test_prometheus_takes_the_files_and_alerts_fire_when_they_should(arguments: tuple[str, ...]) -> None:
    """By its own tool; when each alert should fire stands in the third file."""
    done = promtool(*arguments)

    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    """Grafana itself puts in how long an interval is."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "1m")}
        for number, expression in enumerate(shown())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    done = promtool("check", "rules", str(tmp_path / "rules.yml"))

    assert done.returncode == 0, done.stdout + done.stderr


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run it in the folder of the files."""
    return subprocess.run(
        ["promtool", *arguments], cwd=_CONFIG, capture_output=True, text=True, timeout=60, check=False
    )
