"""The embedded corpus: plan the clips, make them in parallel, write MP4 files and a manifest."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from avff_lib.data.manifest import SPLITS, Row, write_manifest
from avff_lib.errors import AVFFError
from avff_lib.media.encode import write_clip
from avff_lib.synth.forgeries import FAKES, METHODS, get_level
from avff_lib.synth.recording import DURATION, ClipPlan, make_clip, rng_for
from avff_lib.utils.folder import claim_folder
from avff_lib.utils.parallel import parallel_map

REAL_SHARE = 0.4  # of the clips
PARTIAL_SHARE = 0.35  # of the fakes whose method can be partial
CORPUS_VERSION = 2  # raise it when the same settings give other clips


def plan_corpus(
    clips: int, identities: int, seed: int = 0, level: str = "medium", methods: Iterable[str] = FAKES
) -> list[ClipPlan]:
    """Plan the person, words and forgery of each clip, without making the clips.

    Two in five clips are real; the methods share the rest evenly. Identities, with their voices and
    backgrounds, belong to only one split (70/10/20 %), as sources and as donors; so do words.

    Args:
        clips: number of clips, at least 1.
        identities: number of identities, at least 6.
        seed: the same seed gives the same corpus.
        level: a key of `LEVELS`.
        methods: of faking, names in `FAKES`; with none, all clips are real.

    Raises:
        AVFFError: a number is too small, or a name is unknown.
    """
    if clips < 1 or identities < 6:
        raise AVFFError(f"{clips} clips of {identities} identities cannot be planned; use at least 1 and 6")
    if seed < 0:
        raise AVFFError(f"the seed is {seed}; it must be 0 or more")
    methods = _in_order(methods)
    crf = get_level(level).crf
    rng = rng_for(seed, "plan")

    members = _split_identities(identities)
    split_of = {identity: split for split, numbers in members.items() for identity in numbers}
    # Each identity is recorded equally often, as far as the number of clips allows.
    sources = np.concatenate([rng.permutation(identities) for _ in range(-(-clips // identities))])[:clips]
    methods_of = {
        split: iter(_draw_methods(sum(split_of[source] == split for source in sources), methods, rng))
        for split in SPLITS
    }
    plans = []
    for index, source in enumerate(sources.tolist()):
        split = split_of[source]
        name = next(methods_of[split])
        method = METHODS[name]
        others = [identity for identity in members[split] if identity != source]
        plans.append(
            ClipPlan(
                path=f"{method.category}/{name}/{index:05d}.mp4",
                split=split,
                method=name,
                level=level,
                source=source,
                donor=int(rng.choice(others)) if method.needs_donor else None,
                segment=_draw_segment(rng, method.partial) if name != "real" else None,
                crf=int(rng.integers(crf[0], crf[1] + 1)),
                corpus_seed=seed,
                seed=int(np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1, np.uint64)[0]),
            )
        )
    return plans


def _in_order(methods: Iterable[str]) -> tuple[str, ...]:
    """The methods in the order of `FAKES`, each once, so that the order of the argument does not matter."""
    chosen = set(methods)
    for unknown in sorted(chosen - set(FAKES)):
        raise AVFFError(f"the method {unknown!r} does not exist; choose from {', '.join(FAKES)}")
    return tuple(name for name in FAKES if name in chosen)


def _split_identities(identities: int) -> dict[str, range]:
    """Identities of each split, at least two in each, so that there is always a donor."""
    val, test = max(2, round(0.1 * identities)), max(2, round(0.2 * identities))
    train = identities - val - test
    return {
        "train": range(train),
        "val": range(train, train + val),
        "test": range(train + val, identities),
    }


def _draw_methods(count: int, methods: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """``count`` names of methods in random order: the share of real clips, and the fakes evenly."""
    real = round(REAL_SHARE * count) if methods else count
    fakes = [str(name) for name in rng.permutation(methods)]
    names = ["real"] * real + [fakes[i % len(fakes)] for i in range(count - real)]
    return [names[i] for i in rng.permutation(count)]


def _draw_segment(rng: np.random.Generator, partial: bool) -> tuple[float, float]:
    """The fake segment of a clip: all of it, or one to two seconds that start and end with a frame."""
    if not partial or rng.random() >= PARTIAL_SHARE:
        return (0.0, DURATION)
    length = round(rng.uniform(1.0, 2.0) * 25) / 25
    start = round(rng.uniform(0.0, DURATION - length) * 25) / 25
    return (start, round(start + length, 3))


def write_corpus(
    out: str | Path,
    *,
    clips: int,
    identities: int,
    seed: int = 0,
    level: str = "medium",
    methods: Iterable[str] = FAKES,
    workers: int | None = None,
) -> Path:
    """Write a corpus as MP4 files and a ``manifest.csv``.

    It can be interrupted: called again with the same settings, it keeps the files that exist. The manifest is
    written last, so a folder with a manifest is complete. Worker processes are spawned, so a script must call
    this under ``if __name__ == "__main__":``.

    Args:
        out: folder, created if it does not exist.
        clips, identities, seed, level, methods: see `plan_corpus`.
        workers: number of processes; by default one per processor. The files do not depend on it.

    Returns:
        Path of the manifest.

    Raises:
        AVFFError: a setting is wrong, the folder holds something else, or a worker process died.
    """
    methods = _in_order(methods)
    plans = plan_corpus(clips, identities, seed, level, methods)
    out = Path(out)
    settings = {
        "format": CORPUS_VERSION,
        "clips": clips,
        "identities": identities,
        "seed": seed,
        "level": level,
        "methods": list(methods),
    }
    claim_folder(out, "corpus.json", settings, "corpus")
    missing = [plan for plan in plans if not (out / plan.path).is_file()]
    for folder in {(out / plan.path).parent for plan in missing}:
        folder.mkdir(parents=True, exist_ok=True)
    if missing:
        _make(missing, out, workers or os.cpu_count() or 1, done=len(plans) - len(missing))
    manifest = out / "manifest.csv"
    write_manifest((_row(plan, out) for plan in plans), manifest)
    return manifest


def _make(plans: list[ClipPlan], out: Path, workers: int, done: int) -> None:
    """Make the clips of ``plans`` in ``workers`` processes."""
    # Always in worker processes, even in just one: these use a single thread, and the threads of numerical
    # libraries could change the last bits of a sum.
    written = parallel_map(
        functools.partial(_write, out), plans, min(workers, len(plans)), description=str(out), done=done
    )
    for _ in written:
        pass


def _write(out: Path, plan: ClipPlan) -> None:
    write_clip(make_clip(plan), out / plan.path, crf=plan.crf)


def _row(plan: ClipPlan, out: Path) -> Row:
    return Row(
        path=out / plan.path,
        label=int(plan.method != "real"),
        category=METHODS[plan.method].category,
        method=plan.method,
        source=f"id{plan.source:05d}",
        targets=(f"id{plan.donor:05d}",) if plan.donor is not None else (),
        split=plan.split,
        fake_segments=(plan.segment,) if plan.segment else (),
    )
