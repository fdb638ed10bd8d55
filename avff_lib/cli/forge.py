"""``avff forge``: genuine recordings -> real clips and labelled pseudo-fakes."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from avff_lib.cli.common import print_skipped
from avff_lib.utils.cluster import Engine


def forge(
    data: Positional[Path],
    out: Path,
    methods: tuple[str, ...] = (),
    clips: int | None = None,
    seed: int = 0,
    layout: str = "auto",
    workers: int | None = None,
    engine: Engine = "local",
) -> None:
    """Make real clips and labelled pseudo-fakes from genuine recordings, to train a detector for them.

    Args:
        data: folder with genuine recordings; clips that its lists label fake are left out.
        out: folder for the MP4 files and manifest.csv; run again to continue after an interruption.
        methods: only these forgeries; all by default.
        clips: number of clips, two in five of them real; by default each recording gives one real clip.
        seed: the same seed gives the same clips and splits.
        layout: how the recordings are stored, as in avff data check; genuine takes every video in the folder.
        workers: number of processes; by default one per core.
        engine: what runs them: this machine, or a Ray cluster.
    """
    from avff_lib.data.layouts import read_layout
    from avff_lib.forge import FAKES
    from avff_lib.forge import forge as run_forge

    listing = read_layout(data, layout)
    result = run_forge(
        listing.rows, out, clips=clips, seed=seed, methods=methods or FAKES, workers=workers, engine=engine
    )
    print_skipped(result.skipped)
    for note in result.notes:
        print(note)
    fakes = sum(row.label for row in result.rows)
    print(
        f"{len(result.rows) - fakes} real and {fakes} fake clips are listed in {result.manifest}; "
        f"next: avff audit {out}"
    )
