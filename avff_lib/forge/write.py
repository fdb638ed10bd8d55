"""`forge`: genuine recordings -> a dataset of real clips and labelled pseudo-fakes."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from avff_lib.data.manifest import SPLITS, Row, write_manifest
from avff_lib.data.splits import split_sources
from avff_lib.errors import AVFFError
from avff_lib.forge.make import make_clip
from avff_lib.forge.methods import FAKES, METHODS
from avff_lib.forge.plan import ForgePlan, in_order, plan_clips
from avff_lib.forge.recording import Recording, Stretch, Take, inspect
from avff_lib.media.encode import write_clip
from avff_lib.utils.atomic import atomic_write
from avff_lib.utils.cluster import Engine
from avff_lib.utils.folder import claim_folder
from avff_lib.utils.parallel import parallel_map

FORGE_VERSION = 1  # raise it when the same settings give other clips
SETTINGS_NAME, INSPECTED_NAME = "forge.json", "inspected.json"
# The same in every clip, real and fake: it describes the file to whoever finds it, but not its class.
COMMENT = (
    "avff forge: a genuine recording or a pseudo-fake made from one, to train deepfake detectors; "
    "its manifest.csv tells which"
)


@dataclass(frozen=True)
class Forged:
    """The result of `forge`.

    Attributes:
        manifest: path of the manifest.
        rows: of the manifest.
        skipped: path and reason of each recording that could not be used and each clip that could not be
            made.
        notes: sentences on what the recordings did not allow.
    """

    manifest: Path
    rows: list[Row]
    skipped: list[tuple[str, str]]
    notes: list[str]


def forge(
    recordings: Sequence[Row],
    out: str | Path,
    *,
    clips: int | None = None,
    seed: int = 0,
    methods: Iterable[str] = FAKES,
    workers: int | None = None,
    engine: Engine = "local",
) -> Forged:
    """Write real clips and fakes made from genuine recordings, as MP4 files and a ``manifest.csv``.

    Every clip, real or fake, is decoded, cut to the same length and encoded once, so that only the forgery
    distinguishes them. No person is in two splits; with fewer than three people, no recording.

    It can be interrupted: called again with the same settings, it keeps the files that exist. The manifest is
    written last, so a folder with a manifest is complete.

    Args:
        recordings: rows of genuine clips; those with another label are left out, and new splits are drawn.
        out: folder, created if it does not exist.
        clips, seed: see `avff_lib.forge.plan.plan_clips`.
        methods: of faking, names in `FAKES`.
        workers: number of processes; by default one per processor. The files do not depend on it.
        engine: see `avff_lib.utils.parallel.parallel_map`.

    Raises:
        AVFFError: a setting is wrong, no recording can be used, the folder holds something else, or a worker
            process died.
    """
    out, methods, workers = Path(out), in_order(methods), workers or os.cpu_count() or 1
    genuine = [row for row in recordings if row.label == 0]
    if not genuine:
        raise AVFFError(f"none of the {len(recordings)} clips is genuine; give recordings of real people")
    if seed < 0:
        raise AVFFError(f"the seed is {seed}; it must be 0 or more")
    settings = {
        "format": FORGE_VERSION,
        "recordings": _digest(genuine),
        "clips": clips,
        "seed": seed,
        "methods": list(methods),
    }
    claim_folder(out, SETTINGS_NAME, settings, "forged dataset")
    found = _inspected(genuine, out / INSPECTED_NAME, workers, engine)
    skipped = [
        (str(row.path), what) for row, what in zip(genuine, found, strict=True) if isinstance(what, str)
    ]
    usable = {row.path: what for row, what in zip(genuine, found, strict=True) if isinstance(what, Stretch)}
    if not usable:
        raise AVFFError(f"none of the {len(genuine)} recordings can be used; {skipped[0][0]} {skipped[0][1]}")
    rows, apart = split_sources([row for row in genuine if row.path in usable], seed)
    plans, notes = plan_clips(
        [Recording.draw(row, usable[row.path], seed, index) for index, row in enumerate(rows)],
        clips=clips,
        seed=seed,
        methods=methods,
    )
    skipped += _make(plans, out, workers, engine)
    rows = [_row(plan, out) for plan in plans if (out / plan.path).is_file()]
    write_manifest(rows, out / "manifest.csv")
    return Forged(out / "manifest.csv", rows, skipped, notes + _doubts(rows, apart))


def _doubts(rows: Sequence[Row], apart: str) -> list[str]:
    """Sentences on what cannot be measured with so few recordings, or only for these people."""
    doubts = []
    if apart == "recording":
        doubts.append(
            "no recording is in two splits, but people are, since there are fewer than three: what is "
            "measured on the test clips holds for these people alone"
        )
    if empty := [split for split in SPLITS if all(row.split != split for row in rows)]:
        doubts.append(f"there are no {' and no '.join(empty)} clips: the recordings are too few to divide")
    return doubts


def _digest(rows: Sequence[Row]) -> str:
    """Hash, twelve hexadecimal digits, of the recordings: names, sizes and people."""
    sizes = [row.path.stat().st_size if row.path.exists() else None for row in rows]
    entries = [[row.path.name, size, row.source, row.group] for row, size in zip(rows, sizes, strict=True)]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:12]


def _inspected(rows: Sequence[Row], path: Path, workers: int, engine: Engine) -> list[Stretch | str]:
    """`inspect` of every file, or the results of an earlier run."""
    if path.is_file():
        try:
            entries = json.loads(path.read_text())
            return [
                Stretch(**entry) if isinstance(entry, dict) else str(entry)
                for entry, _ in zip(entries, rows, strict=True)
            ]
        except (ValueError, TypeError):
            raise AVFFError(f"{path} is damaged; delete it, and run the command again") from None
    paths = [row.path for row in rows]
    found = list(
        parallel_map(inspect, paths, min(workers, len(paths)), description="looking for faces", engine=engine)
    )
    with atomic_write(path) as partial:
        partial.write_text(
            json.dumps([asdict(what) if isinstance(what, Stretch) else what for what in found])
        )
    return found


def _make(plans: Sequence[ForgePlan], out: Path, workers: int, engine: Engine) -> list[tuple[str, str]]:
    """Make the clips that do not exist; return path and reason of those that cannot be made."""
    missing = [plan for plan in plans if not (out / plan.path).is_file()]
    for folder in {(out / plan.path).parent for plan in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    # A recording is decoded, and its face found, once for all of its clips.
    groups = [list(group) for _, group in groupby(missing, key=lambda plan: plan.recording)]
    if not groups:
        return []
    written = parallel_map(
        functools.partial(_write, out),
        groups,
        min(workers, len(groups)),
        description=str(out),
        unit="recording",
        engine=engine,
    )
    return [failure for failures in written for failure in failures]


def _write(out: Path, plans: Sequence[ForgePlan]) -> list[tuple[str, str]]:
    recording = plans[0].recording
    failures = []
    try:
        take = Take(recording)
    except AVFFError as error:
        return [(str(recording.row.path), str(error))]
    for plan in plans:
        try:
            write_clip(make_clip(plan, take), out / plan.path, crf=recording.crf, comment=COMMENT)
        except AVFFError as error:
            failures.append((str(out / plan.path), str(error)))
    return failures


def _row(plan: ForgePlan, out: Path) -> Row:
    recording, method = plan.recording.row, METHODS[plan.method]
    target = plan.donor.row.source if plan.donor and method.needs_donor else None
    return Row(
        path=out / plan.path,
        label=int(plan.method != "real"),
        category=method.category,
        method=plan.method,
        source=recording.source,
        targets=(target,) if target else (),
        split=recording.split,
        fake_segments=(plan.segment,) if plan.segment else (),
        group=recording.group,
    )
