import json
from pathlib import Path

import pytest

from worker.local.openapi import document
from worker.local.routes import ROUTES, Route

KEPT = Path(__file__).parents[3] / "docs" / "jobs-api.json"


def test_the_document_in_docs_is_up_to_date() -> None:
    """`python -m worker.local.openapi > docs/jobs-api.json` makes it; nobody edits it."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))

    assert kept == document()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_in_the_document_with_its_parameters_and_errors(route: Route) -> None:
    """A route needs a key, names its record in the path, and writes take an Idempotency-Key."""
    operation = document()["paths"][route.path][route.method.lower()]
    parameters = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}

    assert "security" not in operation
    assert ("path", f"{route.kind}_id") in parameters
    assert (("header", "Idempotency-Key") in parameters) == (route.method != "GET")
    assert {"200", "401", "403", "404"} <= set(operation["responses"])


def test_the_document_says_which_routes_the_vendor_has_not_published() -> None:
    """Nobody shall take our defaults for the vendor's API."""
    description = " ".join(document()["info"]["description"].split())

    assert (
        "The routes for jobs, messages, hashes and file records are this project's own defaults"
        in description
    )
    assert "not published by the vendor" in description
