"""The process of a contender: it makes ready, says so, is told to go, and says when it is done."""

import importlib
import json
import sys

from bench.work import Work


def main() -> None:
    """Run the contender named by the first argument on the work of the first line of standard input."""
    contender = importlib.import_module(f"bench.contenders.{sys.argv[1]}")
    document = json.loads(sys.stdin.readline())
    document["keys"], document["algorithms"] = tuple(document["keys"]), tuple(document["algorithms"])
    with contender.opened(Work(**document)) as hash_all:
        _say("ready")
        sys.stdin.readline()
        digests = hash_all()
        _say("done")
    sys.stdin.readline()
    _say(digests)


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
