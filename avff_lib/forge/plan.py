"""What is made from each genuine recording: the method, the donor's voice or take, and the fake segment."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from avff_lib.data.manifest import SPLITS
from avff_lib.errors import AVFFError
from avff_lib.forge.methods import FAKES, METHODS, needs_take
from avff_lib.forge.recording import Recording
from avff_lib.synth.corpus import PARTIAL_SHARE, REAL_SHARE
from avff_lib.synth.recording import rng_for


@dataclass(frozen=True)
class ForgePlan:
    """One clip.

    Attributes:
        path: of the file, relative to the dataset.
        method: a key of `avff_lib.forge.METHODS`.
        recording: the recording that it is made from.
        donor: the recording whose voice or lips are used, if any.
        segment: (start, end) of the fake segment in seconds of the clip, or None for a real clip.
        seed: determines all draws of the method.
    """

    path: str
    method: str
    recording: Recording
    donor: Recording | None
    segment: tuple[float, float] | None
    seed: int


def in_order(methods: Iterable[str]) -> tuple[str, ...]:
    """The methods in the order of `FAKES`, each once, so that the order of the argument does not matter.

    Raises:
        AVFFError: a name is unknown, or there is none.
    """
    chosen = set(methods)
    for unknown in sorted(chosen - set(FAKES)):
        raise AVFFError(f"the method {unknown!r} does not exist; choose from {', '.join(FAKES)}")
    if not chosen:
        raise AVFFError(f"there is no method to forge with; choose from {', '.join(FAKES)}")
    return tuple(name for name in FAKES if name in chosen)


def plan_clips(
    recordings: Sequence[Recording], *, clips: int | None, seed: int, methods: Sequence[str]
) -> tuple[list[ForgePlan], list[str]]:
    """Plan the clips, without making them.

    A recording gives at most one real clip, and at most one fake by each method. As far as this allows, two
    in five clips are real, as in the embedded corpus, and the methods share the rest evenly in every split.
    Donors come from the same split.

    Args:
        recordings: those that can be used.
        clips: number of clips to plan; by default each recording gives one real clip.
        seed: the same seed gives the same plans.
        methods: of faking, names in `FAKES`.

    Returns:
        The plans, grouped by recording, and a sentence for each method that is left out.

    Raises:
        AVFFError: there are too few recordings for so many clips, or a split cannot have fakes.
    """
    count = len(recordings)
    clips = round(count / REAL_SHARE) if clips is None else clips
    real = round(REAL_SHARE * clips)
    if not 1 <= real <= count:
        raise AVFFError(
            f"{clips} clips take {real} genuine recordings, and {count} can be used; ask for "
            f"{round(1 / REAL_SHARE)} to {round(count / REAL_SHARE)} clips"
        )
    rng = rng_for(seed, "plan")
    splits = [recording.row.split for recording in recordings]
    order = _spread(splits, rng)
    donors = _Donors([recordings[i] for i in order], rng)
    chosen = [recordings[i] for i in order[:real]]
    used: dict[str, Counter[str]] = {name: Counter() for name in SPLITS if name in splits}
    fakes: list[dict[str, Recording | None]] = [{} for _ in chosen]
    left, before = clips - real, -1
    while left not in (0, before):
        before = left
        for recording, made in zip(chosen, fakes, strict=True):
            if left and (fake := _choose(recording, made, used[recording.row.split], methods, donors, rng)):
                name, made[name] = fake
                used[recording.row.split][name] += 1
                left -= 1
    drafts: list[tuple[Recording, str, Recording | None]] = []
    for recording, made in zip(chosen, fakes, strict=True):
        drafts += [(recording, "real", None), *((recording, name, donor) for name, donor in made.items())]
    notes = _notes(chosen, used, methods, donors)
    if left:
        notes.append(f"{len(drafts)} clips are made and not {clips}: no method is used twice for a recording")
    return [_plan(number, *draft, seed=seed) for number, draft in enumerate(drafts)], notes


def _spread(splits: Sequence[str], rng: np.random.Generator) -> list[int]:
    """A random order in which every initial part has about the same share of each split."""
    place = np.empty(len(splits))
    for split in SPLITS:
        members = np.flatnonzero([name == split for name in splits])
        place[members] = (rng.permutation(len(members)) + 0.5) / max(1, len(members))
    return np.argsort(place, kind="stable").tolist()


class _Donors:
    """Finds recordings whose voice or lips can be used."""

    def __init__(self, recordings: Sequence[Recording], rng: np.random.Generator) -> None:
        """``recordings`` are in random order."""
        self._rng = rng
        self._of_split = defaultdict[str, list[Recording]](list)
        self._of_person = defaultdict[tuple[str, str], list[Recording]](list)
        for recording in recordings:
            self._of_split[recording.row.split].append(recording)
            self._of_person[recording.row.split, recording.row.source].append(recording)

    def find(self, name: str, recording: Recording) -> Recording | None:
        """A random recording of the same split that is long enough; None if there is none."""
        split, person, take = recording.row.split, recording.row.source, needs_take(METHODS[name])
        everybody, same = self._of_split[split], self._of_person[split, person]
        pool = same if take else everybody if len(same) < len(everybody) else []
        first = int(self._rng.integers(len(pool))) if pool else 0
        # The pool is in random order, so the next one that fits is a random one.
        for donor in chain(pool[first:], pool[:first]):
            fits = donor is not recording and donor.duration >= recording.duration
            if fits and (donor.row.source == person) == take:
                return donor
        return None


def _choose(
    recording: Recording,
    made: Collection[str],
    used: Mapping[str, int],
    methods: Sequence[str],
    donors: _Donors,
    rng: np.random.Generator,
) -> tuple[str, Recording | None] | None:
    """The least used of the methods that a recording allows, and its donor."""
    shuffled = [methods[i] for i in rng.permutation(len(methods)) if methods[i] not in made]
    for name in sorted(shuffled, key=lambda name: used[name]):
        if not _needs_donor(name):
            return name, None
        if donor := donors.find(name, recording):
            return name, donor
    return None


def _needs_donor(name: str) -> bool:
    return METHODS[name].needs_donor or needs_take(METHODS[name])


def _notes(
    chosen: Sequence[Recording], used: Mapping[str, Counter[str]], methods: Sequence[str], donors: _Donors
) -> list[str]:
    """A sentence for each method that finds no donors in some splits.

    Raises:
        AVFFError: a split has no fakes at all.
    """
    notes = []
    for name in filter(_needs_donor, methods):
        lacking = [
            split
            for split in used
            if not used[split][name]
            and not any(donors.find(name, recording) for recording in chosen if recording.row.split == split)
        ]
        if lacking:
            needed = "takes of one person" if needs_take(METHODS[name]) else "people"
            notes.append(
                f"{name} is left out in {', '.join(lacking)}: it takes two {needed} in the same split, and "
                "the one who lends as long as the other"
            )
    for split, counts in used.items():
        if not counts.total():
            reason = "; ".join(notes) or "ask for more clips"
            raise AVFFError(f"no {split} clip can be forged by {', '.join(methods)} ({reason})")
    return notes


def _plan(number: int, recording: Recording, name: str, donor: Recording | None, *, seed: int) -> ForgePlan:
    rng = rng_for(seed, "clip", number)
    method = METHODS[name]
    return ForgePlan(
        path=f"{method.category}/{name}/{number:05d}.mp4",
        method=name,
        recording=recording,
        donor=donor,
        segment=_draw_segment(rng, method.partial, recording.duration) if name != "real" else None,
        seed=int(rng.integers(2**63)),
    )


def _draw_segment(rng: np.random.Generator, partial: bool, duration: float) -> tuple[float, float]:
    """The fake segment of a clip: all of it, or one to two seconds with some of the real clip around."""
    if not partial or rng.random() >= PARTIAL_SHARE:
        return (0.0, duration)
    length = rng.uniform(1.0, min(2.0, 0.8 * duration))
    start = rng.uniform(0.0, duration - length)
    return (round(start, 3), round(start + length, 3))  # a manifest's three decimals
