"""The gateway: HTTP for triggers, which hand in payloads and ask what became of their jobs."""

from worker.gateway.server import run_gateway

__all__ = ["run_gateway"]
