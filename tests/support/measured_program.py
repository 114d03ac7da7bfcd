"""Run a program over a payload in this process, and print how much memory it took beyond its libraries.

python -m tests.support.measured_program PROGRAM PAYLOAD
"""

import resource
import runpy
import sys

import worker.notebook  # noqa: F401 - its memory is not the program's


def _most_kib() -> int:
    """Give the most memory that this process has had resident so far; Linux tells it in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    before_kib = _most_kib()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    print((_most_kib() - before_kib) * 1024)  # noqa: T201 - its one result
