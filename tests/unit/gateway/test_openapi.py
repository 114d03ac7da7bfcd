import json
from pathlib import Path

import pytest

from worker.gateway.models import JobProgress
from worker.gateway.openapi import document
from worker.gateway.routes import ROUTES, Route
from worker.jobs.ledger import Snapshot

KEPT = Path(__file__).parents[3] / "docs" / "gateway-api.json"


def test_the_document_in_docs_is_up_to_date() -> None:
    """`python -m worker.gateway.openapi > docs/gateway-api.json` makes it; nobody edits it."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))

    assert kept == document()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_document_with_what_it_needs_and_answers(route: Route) -> None:
    """A token, unless it is for probes; each job's route can be told which platform is meant."""
    operation = document()["paths"][route.path][route.method.lower()]
    parameters = {parameter["name"] for parameter in operation.get("parameters", ())}

    assert (operation.get("security") == []) == (not route.path.startswith("/v1/"))
    assert ("401" in operation["responses"]) == route.path.startswith("/v1/")
    assert parameters == ({"job_id", "platform"} if "{job_id}" in route.path else set())
    assert str(route.status.value) in operation["responses"]


def test_a_jobs_progress_is_told_whole() -> None:
    """What the ledger tells of a job and what the gateway's document says are the same."""
    known = {"job_id": "299", "task_id": None, "platform": "https://go.example.org"}

    told = JobProgress.model_validate({**known, **Snapshot().as_json()})

    assert json.loads(told.model_dump_json()) == {**known, **Snapshot().as_json()}
