"""``avff synth | audit | prepare``: make a dataset, audit it, decode it once."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from avff_lib.cli.common import by_path, print_skipped, rows_of, write_json
from avff_lib.utils.cluster import Engine


def synth(
    out: Positional[Path],
    clips: int = 300,
    identities: int = 30,
    seed: int = 0,
    level: Literal["easy", "medium", "hard"] = "medium",
    methods: tuple[str, ...] = (),
    workers: int | None = None,
) -> None:
    """Synthesise a corpus of drawn talking heads, real and fake.

    Args:
        out: folder for the MP4 files and manifest.csv; run again to continue after an interruption.
        clips: number of clips.
        identities: number of people; no person is in two splits.
        seed: the same seed gives the same corpus.
        level: how hard the fakes are to detect.
        methods: only these forgeries; all by default.
        workers: number of processes; by default one per core.
    """
    from avff_lib.synth import FAKES, write_corpus

    manifest = write_corpus(
        out,
        clips=clips,
        identities=identities,
        seed=seed,
        level=level,
        methods=methods or FAKES,
        workers=workers,
    )
    print(f"{clips} clips are listed in {manifest}")


def audit(data: Positional[Path], out: Path | None = None) -> None:
    """Check a dataset for shortcuts, leaks and duplicates, without any detector.

    Args:
        data: folder with a manifest.csv.
        out: also write the result as JSON.
    """
    from rich.console import Console

    from avff_lib.data.audit import audit as run_audit

    report = run_audit(rows_of(data))
    Console().print(report.table())
    for finding in report.findings:
        print(finding)
    if out is not None:
        command = shlex.join(["avff", "audit", str(data), "--out", str(out)])
        write_json({"command": command, **report.to_json()}, out)


def prepare(
    data: Positional[Path],
    out: Path,
    image_size: int = 64,
    region: Literal["face", "mouth"] = "face",
    sample_rate: int = 16_000,
    codec: Literal["jpeg", "png"] | None = None,
    workers: int | None = None,
    engine: Engine = "local",
) -> None:
    """Decode a dataset once, for training that reads shards instead of videos.

    Args:
        data: folder with a manifest.csv.
        out: folder for the shards; run again to continue, or to repair damaged shards.
        image_size: of the face crops in pixels; 64 for the tiny models, 224 for the base ones.
        region: of the face: all of it, or the mouth, for detectors of synchrony.
        sample_rate: of the audio in Hz.
        codec: of the face crops: png is lossless; jpeg takes less than half of its bytes, a third at 224
            pixels. By default png up to 96 pixels, and jpeg above.
        workers: number of processes; by default one per core.
        engine: what runs them: this machine, or a Ray cluster that can read the data and write to out.
    """
    from avff_lib.data.shards import write_shards

    rows = rows_of(data)
    skipped = write_shards(
        rows,
        out,
        root=data,
        workers=workers,
        engine=engine,
        codec=codec,
        image_size=image_size,
        region=region,
        sample_rate=sample_rate,
    )
    print_skipped(by_path(skipped))
    print(f"{len(rows) - len(skipped)} of {len(rows)} clips are stored in {out}; train with --data {out}")
