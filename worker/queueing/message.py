"""Messages as Redis holds them, for those who put one on its queue in one step with other writes.

A message is Celery's (protocol 2), in the envelope of kombu's Redis transport. docs/messages.md tells of it
for producers in other languages.
"""

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from worker.queueing.app import BATCH_QUEUE, BATCH_TASK, QUEUED_AT
from worker.queueing.arguments import shown

BATCH = "@BATCH@"
"""Stands for a batch's number in a template."""


def envelope(task: str, document: Mapping[str, Any], *, queue: str, task_id: str) -> bytes:
    """Make a message; LPUSH puts it on the list that is named as the queue.

    Args:
        task: `TASK` or `BATCH_TASK`.
        document: Its one argument.
        queue: `QUEUE` or `BATCH_QUEUE`.
        task_id: Celery's; also the delivery tag, so only copies of a message may have the same one.
    """
    text = json.dumps(document)
    return _envelope(task, text, queue, task_id, shown([document]), **{QUEUED_AT: time.time()}).encode()


def batch_template(job: str) -> str:
    """Make a template of the messages of one job's batches.

    A message is made by replacing each `@BATCH@` by the batch's number in decimal digits, as Lua's
    `string.gsub(template, '@BATCH@', number)` does; nothing else is to be done. Task id and delivery tag are
    the batch's own, and other ones in each template: Celery remembers the ids of terminated tasks for hours.
    Copies of a batch's message from one template share them.

    Args:
        job: Its name in Redis.
    """
    # No @ of the job's name is left that could be replaced.
    name = json.dumps(job).replace("@", "\\u0040")
    document = f'{{"job": {name}, "batch": {BATCH}}}'
    arguments_shown = shown([{"job": job, "batch": BATCH}])
    return _envelope(BATCH_TASK, document, BATCH_QUEUE, f"{uuid4()}-{BATCH}", arguments_shown)


def _envelope(
    task: str, document: str, queue: str, task_id: str, arguments_shown: str, **more_headers: float
) -> str:
    message = {
        # Arguments, named arguments, and what is to follow: nothing.
        "body": f"[[{document}], {{}}, {{}}]",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "root_id": task_id,
            "argsrepr": arguments_shown,
            "kwargsrepr": "{}",
            **more_headers,
        },
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_tag": task_id,
            # By this a task that is to come again finds its queue.
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
    return json.dumps(message)
