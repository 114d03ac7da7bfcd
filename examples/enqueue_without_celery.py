"""Put a payload on the queue with a Redis client alone; docs/messages.md explains the message.

BROKER_URL=redis://:password@broker:6379/0 python enqueue_without_celery.py payload.json
"""

import json
import os
import sys
import uuid
from pathlib import Path

import redis

QUEUE = "hashing"
TASK = "worker.hash_files"


def message(payload: dict[str, object], task_id: str) -> str:
    """Make the message that has a worker run a payload."""
    arguments = [[payload], {}, {}]
    return json.dumps(
        {
            "body": json.dumps(arguments),
            "content-type": "application/json",
            "headers": {"task": TASK, "id": task_id},
            "properties": {"delivery_tag": task_id},
        }
    )


def main() -> None:
    """Read the payload, put it on the queue, and print the task's id."""
    payload = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    task_id = str(uuid.uuid4())
    # The password is in the URL, so it comes in a variable: everybody on a machine can read arguments.
    with redis.Redis.from_url(os.environ["BROKER_URL"]) as broker:
        broker.lpush(QUEUE, message(payload, task_id))
    print(task_id)


if __name__ == "__main__":
    main()
