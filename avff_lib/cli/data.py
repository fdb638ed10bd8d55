"""``avff data check | manifest``: a dataset as it was downloaded -> what is in it, and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from avff_lib.errors import AVFFError

if TYPE_CHECKING:
    from avff_lib.data.layouts import Listing

EXAMPLES = 3  # files that are named where more are meant


def check(root: Positional[Path], layout: str = "auto", workers: int | None = None) -> None:
    """Tell what a folder holds, what is missing or unreadable, what leaks, and what to do next.

    Args:
        root: folder that the dataset was unpacked into.
        layout: how it is stored; auto recognises it. Or manifest, fakeavceleb, lav-df, av-deepfake1m, dfdc,
            dfdc-test, kodf, lrs3, lrs2, voxceleb2, grid, folder.
        workers: processes that open the files; by default one per core.
    """
    from rich.console import Console

    from avff_lib.data.check import check_files
    from avff_lib.data.layouts import LAYOUTS, read_layout
    from avff_lib.data.splits import identity_leaks, imbalances

    listing = read_layout(root, layout)
    _print_listing(listing)
    report = check_files(listing.rows, workers=workers)
    split = LAYOUTS[listing.layout].split
    Console().print(*report.tables(split=split))
    for reason, paths in report.unreadable.items():
        print(f"{_some(paths)}: {reason}")
    if split:
        for sentence in (*identity_leaks(report.readable), *imbalances(report.readable)):
            print(sentence)
    if not report.readable:
        raise AVFFError(f"none of the {len(listing.rows)} files in {listing.root} can be used")
    if listing.layout == "manifest":
        print(f"next: avff audit {listing.root}")
    else:
        print(f"next: avff data manifest {listing.root} --layout {listing.layout}")


def manifest(root: Positional[Path], layout: str = "auto", seed: int = 0) -> None:
    """Write the manifest.csv of a dataset, with splits that share no person.

    Args:
        root: folder that the dataset was unpacked into; the manifest is written there.
        layout: how it is stored; auto recognises it. Or manifest, fakeavceleb, lav-df, av-deepfake1m, dfdc,
            dfdc-test, kodf, lrs3, lrs2, voxceleb2, grid, folder.
        seed: of the splits, where the dataset has none of its own.
    """
    from avff_lib.data.layouts import LAYOUTS, read_layout
    from avff_lib.data.manifest import write_manifest
    from avff_lib.data.splits import split_by_identity

    listing = read_layout(root, layout)
    path = listing.root / "manifest.csv"
    if path.exists():
        raise AVFFError(f"{path} is there already; move it away to have another one written")
    _print_listing(listing)
    rows = listing.rows
    if not rows:
        raise AVFFError(f"none of the files that {LAYOUTS[listing.layout].title} lists is in {listing.root}")
    if LAYOUTS[listing.layout].split:
        print("the splits are those of its authors")
    else:
        rows, left_out = split_by_identity(rows, seed)
        print(f"split by people, sources and targets, with seed {seed}")
        if left_out:
            print(f"left out, since their people are in two splits: {_some([row.path for row in left_out])}")
    write_manifest(rows, path)
    print(f"{len(rows)} clips are listed in {path}; next: avff audit {listing.root}")


def _print_listing(listing: Listing) -> None:
    from avff_lib.data.layouts import LAYOUTS

    print(f"{listing.root} is {LAYOUTS[listing.layout].title}: {len(listing.rows)} files")
    if listing.missing:
        print(f"listed, but not there: {_some(listing.missing)}")
    if listing.repeated:
        print(f"listed more than once, and used once: {_some(listing.repeated)}")


def _some(paths: list[Path]) -> str:
    """``12 files, such as a.mp4, b.mp4, c.mp4``."""
    named = ", ".join(str(path) for path in paths[:EXAMPLES])
    return named if len(paths) <= EXAMPLES else f"{len(paths)} files, such as {named}"
