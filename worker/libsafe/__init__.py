"""The platform: its payload, its jobs API, and the reports that a job sends there.

This floor knows nothing of hashing, of storage or of the queue. It takes plain values and gives records.
"""
