"""What `hash-worker hash` does: find what is to be hashed, hash it, write lists, and check lists.

It may be called from any program with an event loop; what is printed, and how, is the command line's.
"""
