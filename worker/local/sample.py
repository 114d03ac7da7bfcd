"""The sample that the demo hashes when it is given nothing: sizes at which programs go wrong."""

from pathlib import Path

MiB = 1024 * 1024

# A period that is prime: two pieces that changed places would change the digest.
_PATTERN = bytes(range(251))
_SIZES_BYTES = {"empty": 0, "one-byte": 1, "8-MiB": 8 * MiB, "8-MiB-and-1": 8 * MiB + 1, "64-MiB": 64 * MiB}
_TEXT = "Are these files still what they were?\n"


def make_sample(directory: Path) -> Path:
    """Write the sample's six files into a new folder `sample` and give its path."""
    folder = directory / "sample"
    folder.mkdir()
    (folder / "text.txt").write_text(_TEXT, encoding="utf-8")
    for name, size_bytes in _SIZES_BYTES.items():
        with (folder / f"{name}.bin").open("wb") as file:
            block = _PATTERN * (MiB // len(_PATTERN))
            while (missing := size_bytes - file.tell()) > 0:
                file.write(block[:missing])
    return folder
