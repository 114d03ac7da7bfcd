"""`hash-worker hash --check` beside the programs whose lists it checks."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
BLAKE3 = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"
WRONG = "0" * 32

Run = Callable[..., "subprocess.CompletedProcess[str]"]

LISTS = {
    "right": f"{MD5}  abc\n{MD5}  other\n",
    "wrong": f"{MD5}  abc\n{WRONG}  other\n",
    "all wrong": f"{WRONG}  abc\n{WRONG}  other\n",
    "missing": f"{MD5}  abc\n{MD5}  nowhere\n",
    "all missing": f"{MD5}  nowhere\n{MD5}  neither\n",
    "folder": f"{MD5}  folder\n{MD5}  abc\n",
    "improper": f"nonsense\n{MD5}  abc\n\n# comment\nmore\n",
    "nothing right": f"nonsense\n{SHA1}  abc\n",
    "empty": "",
    "all faults": f"{MD5}  abc\n{WRONG}  other\nnonsense\n{MD5}  nowhere\n{WRONG}  nowhere\n{WRONG}  abc\n",
    "reversed": f"{MD5} abc\n{MD5} other\n",
    "capitals": f"{MD5.upper()}  abc\n",
    "tags": f"MD5 (abc) = {MD5}\nMD5 (nowhere) = {MD5}\n",
    "newline": f"\\{MD5}  new\\nline\n",
}
OPTIONS = [
    [],
    ["--quiet"],
    ["--status"],
    ["--warn"],
    ["--strict"],
    ["--ignore-missing"],
    ["--ignore-missing", "--status"],
    ["--strict", "-w", "--ignore-missing"],
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program in a folder with some files; a sentence of ours ends with a full stop, theirs don't."""
    (tmp_path / "folder").mkdir()
    for name in ("abc", "other", "new\nline"):
        (tmp_path / name).write_bytes(b"abc")
    for name, text in LISTS.items():
        (tmp_path / name).with_suffix(".md5").write_text(text)

    def start(*command: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, cwd=tmp_path, input=stdin, capture_output=True, text=True, timeout=90, check=False
        )

    return start


@pytest.fixture
def check(run: Run) -> Run:
    """Run `hash-worker hash --check …`."""
    return lambda *arguments, **options: run(
        sys.executable, "-m", "worker", "hash", "--check", *arguments, **options
    )


def _told(done: "subprocess.CompletedProcess[str]") -> list[str]:
    lines = done.stderr.replace("'", "").splitlines()
    return [line.removeprefix("hash-worker: ").removeprefix("md5sum: ").removesuffix(".") for line in lines]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_gives_what_md5sum_gives(run: Run, check: Run, name: str) -> None:
    """The same lines on standard output, the same sentences on standard error, the same exit status."""
    theirs = run("md5sum", "--check", f"{name}.md5")
    ours = check(f"{name}.md5")

    assert (ours.stdout, _told(ours), ours.returncode) == (theirs.stdout, _told(theirs), theirs.returncode)


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_mean_what_they_mean_to_md5sum(run: Run, check: Run, options: list[str]) -> None:
    """Over several lists, among them one that is not there and one on standard input."""
    lists = ["all faults.md5", "nowhere.md5", "all missing.md5", "-", "right.md5"]

    theirs = run("md5sum", "--check", *options, *lists, stdin=LISTS["improper"])
    ours = check("--algorithms", "md5", *options, *lists, stdin=LISTS["improper"])

    # We read all lists before we read any file, so what is told of lines comes first.
    assert (ours.stdout, sorted(_told(ours)), ours.returncode) == (
        theirs.stdout,
        sorted(_told(theirs)),
        theirs.returncode,
    )


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_each_option_alone_has_md5sums_exit_status(run: Run, check: Run, options: list[str]) -> None:
    """For a list that is right but for an improper line, and a missing file."""
    for name in ("improper.md5", "missing.md5"):
        assert check(*options, name).returncode == run("md5sum", "--check", *options, name).returncode


def test_a_file_is_read_once_however_many_lists_and_algorithms_name_it(check: Run, tmp_path: Path) -> None:
    """Standard input can be read only once, and all its digests are right."""
    (tmp_path / "one.md5").write_text(f"{MD5}  -\n")
    (tmp_path / "two.txt").write_text(f"SHA1 (-) = {SHA1}\nBLAKE3 (-) = {BLAKE3}\n{SHA256}  -\n")

    done = check("one.md5", "two.txt", stdin="abc")

    assert (done.returncode, done.stdout) == (0, "-: OK\n" * 4)


def test_a_list_of_cksum_is_checked(run: Run, check: Run) -> None:
    """Each line says by its tag what its digest is of."""
    theirs = "".join(run("cksum", "-a", each, "abc", "other").stdout for each in ("md5", "sha384", "blake2b"))

    done = check("-", stdin=theirs)

    assert (done.returncode, done.stdout) == (0, "abc: OK\nother: OK\n" * 3)


def test_a_list_whose_algorithm_can_not_be_told_says_what_to_do(check: Run, run: Run) -> None:
    """And is checked once it is told."""
    text = run("b2sum", "abc").stdout

    unknown = check("-", stdin=text)
    known = check("--algorithms", "blake2b", "-", stdin=text)

    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        "hash-worker: 'standard input': A digest of 128 digits may be one of SHA512 or BLAKE2b; "
        "say which by --algorithms.\n"
    )
    assert (known.returncode, known.stdout) == (0, "abc: OK\n")


def test_a_bag_is_checked_from_wherever_we_are(check: Run, tmp_path: Path) -> None:
    """Its paths are relative to it, their line ends percent-encoded; a path that leaves it is improper."""
    data = tmp_path / "bag" / "data"
    data.mkdir(parents=True)
    for name in ("abc", "new\nline", "100%"):
        (data / name).write_bytes(b"abc")
    (tmp_path / "bag/manifest-sha256.txt").write_text(
        f"{SHA256} data/abc\n{SHA256}  data/new%0Aline\n{SHA256} *data/100%25\n{SHA256}  ../abc\n"
    )
    (tmp_path / "bag/-").write_bytes(b"abc")
    (tmp_path / "bag/tagmanifest-md5.txt").write_text(f"{MD5} manifest-sha256.txt\n{MD5} -\n")

    done = check("bag/manifest-sha256.txt", "bag/tagmanifest-md5.txt")

    assert done.returncode == 1
    assert done.stdout == (
        "data/abc: OK\n\\data/new\\nline: OK\ndata/100%: OK\nmanifest-sha256.txt: FAILED\n-: OK\n"
    )
    assert done.stderr.splitlines() == [
        "hash-worker: WARNING: 1 line is improperly formatted",
        "hash-worker: WARNING: 1 computed checksum did NOT match",
    ]


@pytest.mark.parametrize("line", [f"{MD5} ../abc", "nonsense", f"{MD5[:-1]} data/abc"])
def test_a_manifest_with_a_line_that_is_none_is_not_right(check: Run, tmp_path: Path, line: str) -> None:
    """Each is a file of the bag that was not verified."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/abc").write_bytes(b"abc")
    (tmp_path / "manifest-md5.txt").write_text(f"{MD5} data/abc\n{line}\n")

    done = check("manifest-md5.txt")

    assert (done.returncode, done.stdout) == (1, "data/abc: OK\n")
    assert done.stderr == "hash-worker: WARNING: 1 line is improperly formatted\n"


def test_a_manifest_of_a_bag_without_files_is_right(check: Run, tmp_path: Path) -> None:
    """It says nothing; any other list that says nothing is none."""
    (tmp_path / "manifest-md5.txt").touch()

    done = check("manifest-md5.txt")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_digests_that_may_be_b3sums_are_told(check: Run) -> None:
    """Only their length told the algorithm, and they are wrong."""
    done = check("-", stdin=f"{BLAKE3}  abc\n")

    assert (done.returncode, done.stdout) == (1, "abc: FAILED\n")
    assert done.stderr.splitlines()[-1] == (
        "hash-worker: 'standard input': Its digests were taken for SHA256; "
        "if b3sum made it, add --algorithms blake3."
    )


def test_a_tag_that_no_algorithm_here_has_is_told(check: Run, run: Run) -> None:
    """As b2sum's with digests of another length."""
    done = check("-", stdin=run("b2sum", "-l", "256", "--tag", "abc").stdout)

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "hash-worker: 'standard input': no properly formatted checksum lines found",
        "hash-worker: 'standard input': No algorithm here has the tag BLAKE2b-256.",
    ]


def test_status_is_silent_also_about_lines(check: Run) -> None:
    """Whatever else is asked for, in whatever order."""
    done = check("--status", "--warn", "improper.md5")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_tells_of_each_list(check: Run) -> None:
    """Behind its lines: whether it is right, which of its lines are none, why it could not be checked."""
    done = check("--json", "--quiet", "improper.md5", "nowhere.md5", "empty.md5")

    told = [item for item in json.loads(done.stdout) if "target" not in item]
    assert done.returncode == 1
    assert told == [
        {"list": "improper.md5", "is_right": True, "improper_lines": [1, 5], "error": None},
        {
            "list": "nowhere.md5",
            "is_right": False,
            "improper_lines": [],
            "error": "nowhere.md5: No such file or directory.",
        },
        {
            "list": "empty.md5",
            "is_right": False,
            "improper_lines": [],
            "error": "empty.md5: no properly formatted checksum lines found",
        },
    ]


def test_json_tells_each_line(check: Run) -> None:
    """With the list that it stands in, and why a file could not be read."""
    done = check("--json", "all faults.md5")

    *checked, _ = json.loads(done.stdout)
    assert [line["result"] for line in checked] == [
        *("OK", "FAILED", "FAILED open or read", "FAILED open or read", "FAILED")
    ]
    assert checked[2] == {
        "list": "all faults.md5",
        "target": "nowhere",
        "algorithm": "md5",
        "hash": MD5,
        "result": "FAILED open or read",
        "error": "nowhere: No such file or directory.",
    }


@pytest.mark.parametrize("name", ["back\\slash", "\\", "carriage\rreturn", "new\nline", "a\\nb"])
def test_a_name_stands_before_its_outcome_as_it_stands_in_a_list(
    hash_worker: Run, tmp_path: Path, name: str
) -> None:
    """So it is one name, whatever it holds, and no outcome is hidden behind a carriage return."""
    (tmp_path / name).write_bytes(b"abc")
    written = hash_worker("hash", "--algorithms", "md5", name).stdout

    done = hash_worker("hash", "--check", "-", stdin=written)

    assert done.stdout == written.replace(f"{MD5}  ", "").replace("\n", ": OK\n")


def test_a_standard_input_that_is_closed_is_told(tmp_path: Path) -> None:
    """As a list and as a target, in the words for a file that can't be read."""
    shell = 'exec "$0" -m worker hash --algorithms md5 "$@" <&-'
    (tmp_path / "list").write_text(f"{MD5}  -\n")

    told = [
        subprocess.run(
            ["sh", "-c", shell, sys.executable, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        for arguments in (["-"], ["--check", "-"], ["--check", "--status", "list"])
    ]

    assert [(done.returncode, done.stdout, done.stderr) for done in told] == [
        (1, "", "hash-worker: -: Bad file descriptor.\n")
    ] * 3


def test_an_unknown_algorithm_is_told(check: Run) -> None:
    """Before any list is read: exit status 2."""
    done = check("--algorithms", "md4", "right.md5")

    assert done.returncode == 2
    assert done.stderr.startswith("hash-worker: There is no hash algorithm called 'md4'; choose from md5, ")


def test_ctrl_c_ends_the_waiting_for_a_list(tmp_path: Path) -> None:
    """Of which nobody has written a byte yet."""
    os.mkfifo(tmp_path / "list.md5")
    command = [sys.executable, "-m", "worker", "hash", "--check", "list.md5"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        with (tmp_path / "list.md5").open("wb"):  # it is open only when somebody reads it
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)
        assert process.stderr is not None
        told = process.stderr.read()

    assert (process.returncode, told) == (130, "hash-worker: Stopped; nothing was checked.\n")
