"""A LIBSAFE Go function that has the hash worker do its job: it hands the payload over and returns.

Its environment says where: GATEWAY_URL, such as http://gateway:8080, and GATEWAY_TOKEN. The gateway answers
202 once the job is on the queue, 400 with each fault of the payload, and 503 if the queue is away; then, or
without an answer, the same event may be sent again.
"""

import json
import os
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def handler(context: Any, event: Any) -> Any:
    """Hand over what the platform sent; Nuclio calls it for each event."""
    # Nuclio decodes a body that comes as application/json.
    body = event.body if isinstance(event.body, bytes) else json.dumps(event.body).encode()
    headers = {"Authorization": f"Bearer {os.environ['GATEWAY_TOKEN']}", "Content-Type": "application/json"}
    request = Request(f"{os.environ['GATEWAY_URL']}/v1/jobs", body, headers)  # noqa: S310 - the operator's own
    try:
        answer = urlopen(request, timeout=30)  # noqa: S310 - as above
    except HTTPError as refusal:
        answer = refusal
    with answer:
        return context.Response(
            body=answer.read().decode(), content_type="application/json", status_code=answer.status
        )
