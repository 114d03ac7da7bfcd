"""Bytes to digests: many algorithms at once, on every core, from slots of shared memory.

A `LanePool` holds the slots and the lanes. Whoever has bytes takes a slot from `LanePool.slots`, fills it
and feeds it to a `Session`; the session gives one digest per algorithm. Nothing here knows where the bytes
come from.
"""
