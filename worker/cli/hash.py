"""`hash-worker hash`: digests of files, folders, standard input and S3 objects, and checks of lists."""

from typing import Annotated

import typer

from worker.cli.hash_view import HashView
from worker.cli.terminal import (
    FAILED,
    Algorithms,
    Json,
    algorithm_names,
    leave,
    load_settings,
    resolved,
)
from worker.observability import configure_logging

_OUTPUT = "Output"
_CHECKING = "Checking"

commands = typer.Typer()


@commands.command("hash", rich_help_panel="On this machine")
def hash_(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET",
            help="A path, a folder, s3://bucket/key, s3://bucket/prefix/, or - for standard input; "
            "with --check a list.",
        ),
    ],
    *,
    algorithms: Algorithms = "",
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="All files in a folder, all objects under a prefix.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No bar; with --check no line for what is OK.")
    ] = False,
    tag: Annotated[
        bool, typer.Option("--tag", help="Lines as `MD5 (name) = hex`.", rich_help_panel=_OUTPUT)
    ] = False,
    zero: Annotated[
        bool,
        typer.Option(
            "--zero", "-z", help="End lines by a zero byte, and escape no name.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    output_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write a list for each algorithm: MD5SUMS, SHA256SUMS.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", "-c", help="Check lists instead.", rich_help_panel=_CHECKING)
    ] = False,
    ignore_missing: Annotated[
        bool,
        typer.Option(
            "--ignore-missing", help="Leave out files that are not there.", rich_help_panel=_CHECKING
        ),
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Print nothing; the exit status tells.", rich_help_panel=_CHECKING),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail also for improperly formatted lines.", rich_help_panel=_CHECKING),
    ] = False,
    warn: Annotated[
        bool,
        typer.Option("--warn", "-w", help="Tell each improperly formatted line.", rich_help_panel=_CHECKING),
    ] = False,
) -> None:
    """Print digests, or check them: local files, folders, standard input and S3 objects, each read once.

    One line for each, as sha256sum prints it, or with several algorithms as `sha256sum --tag` does:

        hash-worker hash photo.tif --algorithms sha256
        hash-worker hash s3://archive/photo.tif "s3://archive/photo.tif?versionId=3"
        hash-worker hash --recursive photos s3://archive/2024/ --json
        tar c photos | hash-worker hash - --algorithms md5,blake3

    --recursive follows links to files, not to folders, and tells what it leaves out.

    With --output-dir it writes lists, which sha256sum -c, b3sum -c and --check take:

        hash-worker hash -r photos --algorithms sha256,blake3 --output-dir lists
        hash-worker hash --check lists/SHA256SUMS lists/B3SUMS

    --check takes lists of coreutils (md5sum, sha256sum, b2sum, cksum -a) and b3sum, BSD tags, and manifests
    of BagIt. Where no tag tells the algorithm, --algorithms does, or the list's name, or the digests' length:

        hash-worker hash -c bag/manifest-sha512.txt --quiet
        hash-worker hash -c list.txt --algorithms blake3 --ignore-missing

    A manifest with an improper line is not right. --json has an object for each line and one for each list.

    S3 credentials come from the settings: the storage with that bucket, or default. Exit status 1: a target
    could not be hashed, or a list is not right; the others are done all the same.
    """
    if check and (recursive or tag or zero or output_dir is not None):
        leave("--recursive, --tag, --zero and --output-dir do not go with --check.")
    if not check and (ignore_missing or status or strict or warn):
        leave("--ignore-missing, --status, --strict and --warn go with --check.")
    if as_json and (tag or zero or output_dir is not None):
        leave("--tag, --zero and --output-dir do not go with --json.")
    loaded = load_settings()
    configure_logging("WARNING", loaded.log.format)
    chosen = resolved(names) if (names := algorithm_names(algorithms)) else ()
    view = HashView(has_bar=not quiet and not status)
    if check:
        from worker.cli.hash_check import CheckRules, check_all

        rules = CheckRules(
            as_json=as_json,
            is_quiet=quiet,
            is_silent=status,
            is_strict=strict,
            tells_lines=warn and not status,
            ignores_missing=ignore_missing,
        )
        is_right = check_all(loaded, targets, chosen, view, rules)
    else:
        from worker.cli.hash_digests import OutputForm, hash_all, local_folder

        folder = None if output_dir is None else local_folder(output_dir)
        chosen = chosen or resolved(loaded.hashing.algorithms, "Wrong settings: hashing.algorithms: ")
        form = OutputForm(as_json=as_json, is_tagged=tag, ends_by_zero=zero, folder=folder)
        is_right = hash_all(loaded, targets, chosen, view, form, is_recursive=recursive)
    raise typer.Exit(0 if is_right else FAILED)
