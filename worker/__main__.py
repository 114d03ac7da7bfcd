"""`python -m worker` is the same as `hash-worker`."""

from worker.cli import main

main()
