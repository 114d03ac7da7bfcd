"""Celery: turns a message into a call of the job's code, and a payload into a message."""
