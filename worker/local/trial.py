"""One more job on a platform that runs in the foreground, handed in at the gateway as a trigger does."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from worker.local.demo import DemoResult, Progress, result_of
from worker.local.errors import NotHandedInError, UnusablePathError
from worker.local.foreground import payload_path
from worker.local.models import ENDED
from worker.local.platform import records_path
from worker.local.store import PlatformStore

_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 30.0


async def run_trial(
    directory: Path, gateway_url: str, token: str | None, algorithms: Sequence[str], progress: Progress
) -> DemoResult:
    """Make a job over all files of the platform, hand it in, and tell what the platform has at its end.

    Args:
        directory: The platform's.
        gateway_url: Without `/v1`.
        token: The gateway's, if it has one.
        algorithms: Their names; none means the worker's default.
        progress: Called several times a second while the job runs.

    Raises:
        UnusablePathError: The folder is no platform's.
        NotHandedInError: The gateway did not take the job.
    """
    if not payload_path(directory).is_file():
        raise UnusablePathError(f"{directory} is not the folder of a platform that `hash-worker local` runs.")
    payload = json.loads(payload_path(directory).read_bytes())
    container_id = payload["function_data"]["container"]["id"]
    with closing(PlatformStore(records_path(directory))) as store:
        job_id = store.add_job(container_id)
        payload["function_data"]["job"]["id"] = job_id
        payload["function_params"] = {"algorithms": list(algorithms)} if algorithms else {}
        await _hand_in(gateway_url.rstrip("/"), token, payload)
        while store.job(job_id).status not in ENDED:
            told = {message.file_id for message in store.messages(job_id)} - {None}
            progress(len(told), len(payload["function_data"]["files"]["ids"]))
            await asyncio.sleep(_POLL_SECONDS)
        return result_of(store, container_id, job_id)


async def _hand_in(gateway_url: str, token: str | None, payload: dict[str, Any]) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.post(f"{gateway_url}/v1/jobs", json=payload, headers=headers) as answer,
        ):
            if answer.status == HTTPStatus.ACCEPTED:
                return
            reason = (await answer.json())["error"]
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
        raise NotHandedInError(f"{gateway_url} does not answer as the gateway does; is it there?") from None
    raise NotHandedInError(f"The gateway refused the job ({answer.status}): {reason}")
