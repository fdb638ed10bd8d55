"""Who is in which split of a dataset, and as what: leaks of identities, and lopsided classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from avff_lib.data.manifest import Row

LOPSIDED = 4  # clips of one class to each of the other that are worth a word


def split_names(rows: Sequence[Row]) -> list[str]:
    """The splits that a dataset has, in order of appearance."""
    return list(dict.fromkeys(row.split for row in rows))


def shared_identities(rows: Sequence[Row]) -> dict[str, tuple[str, ...]]:
    """For each pair of splits the identities, source or target, that are in both.

    A source gives the rest of the picture or the voice, a target the face or voice that is put in; a
    detector can know either again.
    """
    return _in_two(
        {
            split: {name for row in rows if row.split == split for name in (row.source, *row.targets)}
            for split in split_names(rows)
        }
    )


def identity_leaks(rows: Sequence[Row]) -> list[str]:
    """A sentence for each pair of splits that share identities.

    Many splits mind sources only, so it says how many identities leak through targets alone.
    """
    sources = _in_two(
        {split: {row.source for row in rows if row.split == split} for split in split_names(rows)}
    )
    found = []
    for splits, people in shared_identities(rows).items():
        some = ", ".join(people[:3]) + (", …" if len(people) > 3 else "")
        hidden = len(people) - len(sources.get(splits, ()))
        how = f" ({hidden} of them only if targets are counted)" if hidden else ""
        found.append(
            f"{len(people)} identities are in both {splits}{how}: {some}; give each to one split only"
        )
    return found


def imbalances(rows: Sequence[Row]) -> list[str]:
    """A sentence for each split whose clips are of one class, or nearly."""
    found = []
    for split in split_names(rows):
        count = Counter(row.label for row in rows if row.split == split)
        fewer, more = sorted((count[0], count[1]))
        if fewer == 0:
            only = "fake" if count[1] else "genuine"
            found.append(f"all {more} {split} clips are {only}, so nothing can be compared there; add others")
        elif more > LOPSIDED * fewer:
            found.append(
                f"{split} has {count[1]} fake and {count[0]} genuine clips: accuracy and average precision "
                "flatter there; report AUC and balanced accuracy, and train on both classes alike"
            )
    return found


def _in_two(people: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Names that are in two of the sets, for each two that have some in common."""
    splits = list(people)
    shared = {}
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            if both := people[one] & people[other]:
                shared[f"{one} and {other}"] = tuple(sorted(both))
    return shared
