"""Identities and classes in the splits of a dataset: disjoint splits, leaks and imbalances."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from avff_lib.data.manifest import SPLITS, Row
from avff_lib.utils.atomic import atomic_write

SHARES = (0.7, 0.15, 0.15)  # of the clips, for each of `SPLITS`
IMBALANCE_RATIO = 4  # clips of one class per clip of the other, above which a split is reported


def split_by_identity(rows: Sequence[Row], seed: int = 0) -> tuple[list[Row], list[Row]]:
    """Give every clip a split, so that no identity, source or target, is in two of them.

    People in the same clip stay together, and so do people who are linked through others. If that chains more
    than half of the clips together, as the many targets of FakeAVCeleb do, people are divided one by one, and
    clips with people of two splits are left out.

    Args:
        rows: those of a dataset; their splits are ignored.
        seed: of the draw; the same rows and seed give the same splits, in any order of the rows.

    Returns:
        The rows with their splits, about `SHARES` of them in each, and those that were left out.
    """
    clips = Counter(row.source for row in rows)
    people = sorted({name for row in rows for name in (row.source, *row.targets)})
    index = {name: number for number, name in enumerate(people)}
    links = [(index[row.source], index[target]) for row in rows for target in row.targets]
    one, other = np.array(links, dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(len(people), len(people)))
    _, group_of = connected_components(graph, directed=False)
    sizes = np.bincount(group_of, weights=[clips[name] for name in people])
    if sizes.max() > len(rows) / 2:
        group_of, sizes = np.arange(len(people)), np.array([clips[name] for name in people])
    order = np.random.default_rng(seed).permutation(len(sizes))
    lacking = np.array(SHARES) * len(rows)
    split_of_group: dict[int, str] = {}
    empty = set(range(len(SPLITS)))
    for group in order[np.argsort(-sizes[order], kind="stable")]:  # the largest first, so that all fit
        last = len(sizes) - len(split_of_group) <= len(empty)  # with few groups, each split gets one
        chosen = max(sorted(empty) if last else range(len(SPLITS)), key=lambda number: lacking[number])
        empty.discard(chosen)
        split_of_group[int(group)] = SPLITS[chosen]
        lacking[chosen] -= sizes[group]
    split_of = {name: split_of_group[int(group_of[number])] for name, number in index.items()}
    kept, left_out = [], []
    for row in rows:
        splits = {split_of[name] for name in (row.source, *row.targets)}
        if len(splits) == 1:
            kept.append(replace(row, split=splits.pop()))
        else:
            left_out.append(row)
    return kept, left_out


def split_sources(rows: Sequence[Row], seed: int = 0) -> tuple[list[Row], Literal["identity", "recording"]]:
    """Give genuine clips splits that share no person, or, with too few people, no recording.

    Args:
        rows: real ones, without targets; their splits are ignored.
        seed: as in `split_by_identity`.

    Returns:
        The rows with their splits, and what no two splits share. With fewer people than splits this is
        ``"recording"``: results on these splits hold only for these people.
    """
    if len({row.source for row in rows}) >= len(SPLITS):
        return split_by_identity(rows, seed)[0], "identity"
    alone = [replace(row, source=str(row.path)) for row in rows]
    split, _ = split_by_identity(alone, seed)
    return [replace(row, split=one.split) for row, one in zip(rows, split, strict=True)], "recording"


def leaks_at_random(rows: Sequence[Row], seed: int = 0) -> str:
    """A sentence on how many people would leak if files were split at random, as is often done."""
    drawn = np.random.default_rng(seed).choice(SPLITS, len(rows), p=SHARES)
    split = [replace(row, split=str(name)) for row, name in zip(rows, drawn, strict=True)]
    leaked = set().union(*shared_identities(split).values())
    people = {name for row in rows for name in (row.source, *row.targets)}
    return (
        f"split by file at random, {len(leaked)} of {len(people)} people would be in two splits or more; "
        "split by people, none is"
    )


def write_split(rows: Sequence[Row], path: Path) -> None:
    """Write the people and files of each split as CSV, one line per clip, to be kept beside a model.

    Args:
        rows: those of the manifest or of shards; a repeated clip is written once.
        path: of the file.
    """
    with atomic_write(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "split", "label", "source", "targets"))
        for row in dict.fromkeys(rows):
            table.writerow((row.path.as_posix(), row.split, row.label, row.source, ";".join(row.targets)))


def split_names(rows: Sequence[Row]) -> list[str]:
    """The splits that a dataset has, in order of appearance."""
    return list(dict.fromkeys(row.split for row in rows))


def shared_identities(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """For each pair of splits the identities, source or target, that are in both.

    A source is the person who was recorded, a target the person whose face or voice was inserted; a detector
    can recognise either.
    """
    return _in_two_sets(
        {
            split: {name for row in rows if row.split == split for name in (row.source, *row.targets)}
            for split in split_names(rows)
        }
    )


def identity_leaks(rows: Sequence[Row]) -> list[str]:
    """A sentence for each pair of splits that share identities.

    Many datasets are split only by source, so the sentence counts identities that leak only through targets.
    """
    sources = _in_two_sets(
        {split: {row.source for row in rows if row.split == split} for split in split_names(rows)}
    )
    sentences = []
    for splits, identities in shared_identities(rows).items():
        some = ", ".join(identities[:3]) + (", …" if len(identities) > 3 else "")
        targets_only = len(identities) - len(sources.get(splits, ()))
        how = f" ({targets_only} of them only if targets are counted)" if targets_only else ""
        sentences.append(
            f"{len(identities)} identities are in both {splits}{how}: {some}; give each to one split only"
        )
    return sentences


def imbalances(rows: Sequence[Row]) -> list[str]:
    """A sentence for each split whose clips are all, or nearly all, of one class."""
    sentences = []
    for split in split_names(rows):
        count = Counter(row.label for row in rows if row.split == split)
        fewer, more = sorted((count[0], count[1]))
        if fewer == 0:
            only = "fake" if count[1] else "real"
            sentences.append(
                f"all {more} {split} clips are {only}, so no metric is defined there; add others"
            )
        elif more > IMBALANCE_RATIO * fewer:
            sentences.append(
                f"{split} has {count[1]} fake and {count[0]} real clips: accuracy and average precision "
                "are misleading there; report AUC and balanced accuracy, and balance the classes in training"
            )
    return sentences


def _in_two_sets(identities: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Names that are in two of the sets, for each pair of sets that share any."""
    splits = list(identities)
    shared = {}
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            if both := identities[one] & identities[other]:
                shared[f"{one} and {other}"] = tuple(sorted(both))
    return shared
