"""Hash the files of a LIBSAFE Go platform: a payload in, digests and messages and an ended job out."""

__version__ = "0.1.0"
