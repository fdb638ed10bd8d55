"""``avff data check | manifest | split | join``: prepare a downloaded dataset."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from avff_lib.errors import AVFFError

if TYPE_CHECKING:
    from avff_lib.data.layouts import Listing
    from avff_lib.data.manifest import Row

EXAMPLES = 3  # files that are named in a longer list


def check(
    root: Positional[Path], layout: str = "auto", sample: int | None = None, workers: int | None = None
) -> None:
    """Report what a folder holds, missing and unreadable files, leaks, and what to do next.

    Args:
        root: folder that the dataset was unpacked into.
        layout: how it is stored; auto recognises it. Or manifest, fakeavceleb, lav-df, av-deepfake1m, dfdc,
            dfdc-test, kodf, lrs3, lrs2, voxceleb2, grid, folder, genuine (every video is real).
        sample: number of files to open, drawn at random; by default all.
        workers: number of processes that open the files; by default one per core.
    """
    from rich.console import Console

    from avff_lib.data.check import check_files
    from avff_lib.data.layouts import LAYOUTS, read_layout
    from avff_lib.data.splits import identity_leaks, imbalances, leaks_at_random

    if sample is not None and sample < 1:
        raise AVFFError(f"the sample is {sample} files; expected 1 or more")
    listing = read_layout(root, layout)
    _print_listing(listing)
    report = check_files(_drawn(listing.rows, sample), workers=workers)
    split = LAYOUTS[listing.layout].split
    Console().print(*report.tables(split=split))
    for reason, paths in report.unreadable.items():
        print(f"{_some(paths)}: {reason}")
    if listing.layout == "voxceleb2" and report.unreadable and any(listing.root.glob("*/aac")):
        print(f"its sound is separate, in aac/; avff data join {listing.root} --out FOLDER joins them")
    if not report.readable:
        raise AVFFError(f"none of the {len(listing.rows)} files in {listing.root} can be used")
    if split:
        for sentence in (*identity_leaks(listing.rows), *imbalances(listing.rows)):
            print(sentence)
    elif len({row.source for row in listing.rows}) > 1:
        print(leaks_at_random(listing.rows))
    else:
        print("all clips are of one person: results will hold only for this person")
    if listing.layout == "manifest":
        print(f"next: avff audit {listing.root}")
    else:
        print(f"next: avff data manifest {listing.root} --layout {listing.layout}")


def manifest(root: Positional[Path], layout: str = "auto", seed: int = 0) -> None:
    """Write the manifest.csv of a dataset, with splits that share no person.

    Args:
        root: folder that the dataset was unpacked into; the manifest is written there.
        layout: how it is stored; auto recognises it. Or manifest, fakeavceleb, lav-df, av-deepfake1m, dfdc,
            dfdc-test, kodf, lrs3, lrs2, voxceleb2, grid, folder, genuine (every video is real).
        seed: of the splits, if the dataset has none of its own.
    """
    from avff_lib.data.layouts import LAYOUTS, read_layout
    from avff_lib.data.manifest import find_manifest, write_manifest

    listing = read_layout(root, layout)
    path = listing.root / "manifest.csv"
    if (known := find_manifest(listing.root)).exists():
        raise AVFFError(f"{known} already exists; move it away to write another one")
    _print_listing(listing)
    rows = listing.rows
    if not rows:
        raise AVFFError(f"none of the files that {LAYOUTS[listing.layout].title} lists is in {listing.root}")
    if LAYOUTS[listing.layout].split:
        print("the splits are those of its authors")
    else:
        rows = _split(rows, seed)
    write_manifest(rows, path)
    print(f"{len(rows)} clips are listed in {path}; next: avff audit {listing.root}")
    if not any(row.label for row in rows):
        print(
            "no clip is fake: avff pretrain learns from these, and avff forge makes fakes of them to train on"
        )


def split(root: Positional[Path], seed: int = 0) -> None:
    """Split a dataset again, so that no person, source or target, is in two splits.

    Args:
        root: folder with a manifest. Its manifest.csv is replaced; the old one is kept beside it.
        seed: of the draw.
    """
    from avff_lib.cli.common import rows_of
    from avff_lib.data.manifest import SPLITS, write_manifest

    rows = _split(rows_of(root), seed)
    path = root / "manifest.csv"
    if path.exists():
        number = 1
        while (kept := root / f"manifest.{number}.csv").exists():
            number += 1
        shutil.copy2(path, kept)
        print(f"the old manifest is {kept}")
    write_manifest(rows, path)
    counts = Counter(row.split for row in rows)
    print(f"{path}: " + ", ".join(f"{counts[name]} {name}" for name in SPLITS))


def join(root: Positional[Path], out: Path, workers: int | None = None) -> None:
    """Join the silent videos of VoxCeleb2 with their sound, which is published separately.

    Args:
        root: folder with dev/ or test/, each with mp4/ and aac/ in it.
        out: folder for the joined files, in the same layout; run again to continue.
        workers: number of processes; by default one per core.
    """
    from avff_lib.data.voxceleb import join_sound

    joined, skipped = join_sound(root, out, workers=workers)
    for reason in skipped:
        print(f"skipped {reason}", file=sys.stderr)
    print(f"{joined} videos with sound are in {out}; next: avff data check {out}")


def _split(rows: list[Row], seed: int) -> list[Row]:
    """Split by people, and report the result."""
    from avff_lib.data.splits import split_by_identity, split_sources

    left_out: list[Row] = []
    if any(row.label or row.targets for row in rows):
        kept, left_out = split_by_identity(rows, seed)
        by = "identity"
    else:
        kept, by = split_sources(rows, seed)
    if by == "identity":
        print(f"split by people, sources and targets, with seed {seed}")
    else:
        print(f"split by recordings with seed {seed}, for lack of people: results will hold for these alone")
    if left_out:
        print(f"left out, since their people are in two splits: {_some([row.path for row in left_out])}")
    return kept


def _drawn(rows: list[Row], sample: int | None) -> list[Row]:
    """A sample without replacement, in the order of the rows; all of them if it is None or larger."""
    import numpy as np

    if sample is None or sample >= len(rows):
        return rows
    chosen = np.random.default_rng(0).choice(len(rows), sample, replace=False)
    return [rows[index] for index in sorted(chosen)]


def _print_listing(listing: Listing) -> None:
    from avff_lib.data.layouts import LAYOUTS

    print(f"{listing.root} is {LAYOUTS[listing.layout].title}: {len(listing.rows)} files")
    if listing.missing:
        print(f"listed, but missing: {_some(listing.missing)}")
    if listing.repeated:
        print(f"listed more than once, and used once: {_some(listing.repeated)}")


def _some(paths: list[Path]) -> str:
    """``12 files, such as a.mp4, b.mp4, c.mp4``."""
    named = ", ".join(str(path) for path in paths[:EXAMPLES])
    return named if len(paths) <= EXAMPLES else f"{len(paths)} files, such as {named}"
