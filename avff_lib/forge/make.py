"""The plan of a clip -> its frames and waveform."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avff_lib.forge.methods import METHODS
from avff_lib.forge.picture import blend_with_itself, replace_mouth
from avff_lib.forge.plan import ForgePlan
from avff_lib.forge.recording import Take
from avff_lib.forge.voice import revoiced
from avff_lib.media.clip import Clip, to_samples
from avff_lib.synth.forgeries import segment_weight
from avff_lib.synth.recording import rng_for


def make_clip(plan: ForgePlan, take: Take) -> Clip:
    """Make the clip of a plan.

    Args:
        plan: that of the clip.
        take: the recording that it is made from.

    Returns:
        A clip with the same length and numbers of frames and samples as the recording's other clips.

    Raises:
        MediaError: a recording cannot be decoded, or shows no face.
    """
    clip = take.cut(plan.recording.duration)
    if plan.segment is None:
        return clip
    donor = Take(plan.donor) if plan.donor else None
    return replace(clip, waveform=_voice(plan, clip, take, donor), frames=_picture(plan, clip, take, donor))


def _voice(plan: ForgePlan, clip: Clip, take: Take, donor: Take | None) -> np.ndarray:
    method = METHODS[plan.method]
    own = voice = clip.waveform
    if method.voice == "shifted":
        voice = take.shifted_voice()
    elif method.voice != "own":
        voice = _given(donor, plan).cut(clip.duration).waveform
    if method.vocoded:
        # Only the segment, so that it is as loud as what it replaces.
        first, last = (to_samples(end, clip.sample_rate) for end in _segment(plan))
        part = slice(first, last)
        spoken = revoiced(voice[part], rng_for(plan.seed, "voice"), like=own[part])
        voice = np.concatenate([own[:first], spoken, own[last:]])
    weight = _weight(plan, np.arange(len(own)) / clip.sample_rate).astype(np.float32)
    return (1 - weight) * own + weight * voice


def _picture(plan: ForgePlan, clip: Clip, take: Take, donor: Take | None) -> np.ndarray:
    method = METHODS[plan.method]
    if method.lips == "own" and method.face == "drawn":
        return clip.frames
    frames, face = clip.frames.copy(), take.face(clip.times)
    weight = _weight(plan, clip.times - clip.start)
    rng = rng_for(plan.seed, "picture")
    if method.face == "self_blended":
        blend_with_itself(frames, face, weight, rng)
        return frames
    other = None
    if method.lips == "other":
        lips = _given(donor, plan)
        spoken = lips.cut(clip.duration)
        shown = spoken.nearest_frames(clip.times - clip.start + spoken.start)
        other = spoken.frames[shown], lips.face(spoken.times[shown])
    replace_mouth(frames, face, weight, rng, other=other, generated=method.face == "blended")
    return frames


def _weight(plan: ForgePlan, times: np.ndarray) -> np.ndarray:
    return segment_weight(times, _segment(plan), plan.recording.duration)


def _segment(plan: ForgePlan) -> tuple[float, float]:
    if plan.segment is None:
        raise ValueError(f"the plan of {plan.path} has no segment, and its method {plan.method} needs one")
    return plan.segment


def _given(donor: Take | None, plan: ForgePlan) -> Take:
    if donor is None:
        raise ValueError(f"the plan of {plan.path} has no donor, and its method {plan.method} needs one")
    return donor
