"""The command line. It reads and prints; the work is done below.

The work's own modules are imported where a command needs them: `--help` stays quick, and a worker's image
does without the local platform. Here next to nothing is loaded beforehand: Ctrl-C may come while it is.
"""

import sys

from worker.cli.standard_streams import OutputError, drop_output, prepare_streams


def main() -> None:
    """Run the command line; whatever comes between, a person gets a sentence and no traceback."""
    try:
        prepare_streams()
        from worker.cli.app import app

        app()
    except KeyboardInterrupt:
        print("hash-worker: Stopped.", file=sys.stderr)  # noqa: T201 - the rest may be half loaded
        sys.exit(130)
    except OutputError as error:
        drop_output()
        sys.exit(f"hash-worker: {error}" if str(error) else 1)
