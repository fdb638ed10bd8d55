"""The plan of a clip -> its frames and waveform, real or fake.

Every random choice has its own generator, seeded by the plan and the name of its purpose, so that a fake clip
and its real twin share everything that the method does not change: words, pose, light, noise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from avff_lib.media.clip import Clip
from avff_lib.synth import retouch
from avff_lib.synth.acoustics import channel, room_and_noise, vocode
from avff_lib.synth.face import FRAME_RATE, Motion, camera, face_ellipse, mouth_ellipse, render
from avff_lib.synth.forgeries import LEVELS, METHODS, lips_from_loudness, natural_lag, segment_weight
from avff_lib.synth.phones import Lexicon, invent_lexicon, sentence
from avff_lib.synth.portrait import Identity, Scene
from avff_lib.synth.speech import SAMPLE_RATE, TRACK_RATE, Articulation, Voice, articulate, speak

DURATION = 3.2  # seconds of a clip
FRAME_TIMES = np.arange(round(DURATION * FRAME_RATE)) / FRAME_RATE
LEAD_SECONDS = 0.2  # of audio before and after the clip, so that it starts and ends within speech
MARGIN_SECONDS = 0.8  # of articulation before and after the clip: the lead and the largest shift
# Level of a clip in dB of full scale. If it were exactly the same for all, the hundredth of a decibel by
# which the AAC encoder lowers a vocoded voice would distinguish it from a recorded one.
LOUDNESS_RANGE_DB = (-25.0, -21.0)
SCENES_PER_IDENTITY = 3
LEXICON_SIZES = {"train": 420, "val": 80, "test": 120}  # words; no word is in two splits


@dataclass(frozen=True)
class ClipPlan:
    """All parameters of one clip.

    Attributes:
        path: of the file, relative to the corpus.
        split: ``"train"``, ``"val"`` or ``"test"``; it determines the lexicon.
        method: a key of `METHODS`.
        level: a key of `LEVELS`.
        source: number of the recorded identity.
        donor: number of the identity whose voice or face is used, if any.
        segment: (start, end) of the fake segment in seconds, or None for a real clip.
        crf: of the H.264 encoding.
        corpus_seed: determines identities and words.
        seed: determines everything else.
    """

    path: str
    split: str
    method: str
    level: str
    source: int
    donor: int | None
    segment: tuple[float, float] | None
    crf: int
    corpus_seed: int
    seed: int


@dataclass(frozen=True, eq=False)
class Performance:
    """Voice and mouth of a clip, before room, camera and channel.

    Attributes:
        voice_track: articulation of the voice, from ``-LEAD_SECONDS`` to ``DURATION + LEAD_SECONDS``.
        dry_voice: float32 waveform of ``voice_track``, `avff_lib.synth.speech.HOP_LENGTH` samples per step.
        own_mouth: ``(T, 5)`` mouth shapes of the original recording, at `FRAME_TIMES`.
        mouth: ``(T, 5)`` mouth shapes in the clip.
    """

    voice_track: Articulation
    dry_voice: np.ndarray
    own_mouth: np.ndarray
    mouth: np.ndarray


def real_twin(plan: ClipPlan) -> ClipPlan:
    """The plan of the original recording of a fake clip."""
    return replace(plan, method="real", donor=None, segment=None)


def rng_for(*key: int | str) -> np.random.Generator:
    """A random generator seeded by a key, such as ``rng_for(seed, "room")``."""
    numbers: list[int] = []
    for part in key:
        numbers += part.encode() if isinstance(part, str) else [part]
    return np.random.default_rng(numbers)


def make_clip(plan: ClipPlan) -> Clip:
    """Make the clip of a plan.

    Returns:
        A clip of 3.2 s: 80 frames of 144 x 144 pixels at 25 fps and 51,200 samples at 16 kHz.
    """
    performance = perform(plan)
    return Clip(
        frames=film(plan, performance),
        times=FRAME_TIMES,
        waveform=record(plan, performance),
        sample_rate=SAMPLE_RATE,
        start=0.0,
        duration=DURATION,
    )


def perform(plan: ClipPlan) -> Performance:
    """Articulation of lips and voice of a clip, and the dry voice."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    voice = _voice(plan.corpus_seed, plan.source)
    own = other = _utter(plan, "own", voice)
    if "other" in (method.voice, method.lips) or method.lips == "loudness":
        other = _utter(plan, "other", voice)
    weight = _fake_weight(plan, TRACK_RATE)

    voice_track = _cut(own)
    if method.voice == "shifted":
        rng = rng_for(plan.seed, "shift")
        shift = rng.choice((-1, 1)) * rng.uniform(*level.shift)
        voice_track = voice_track.splice(_cut(own, shift), weight)
    elif method.voice == "other":
        voice_track = voice_track.splice(_cut(other), weight)
    elif method.voice == "foreign":
        voice = _voice(plan.corpus_seed, _donor(plan))
        voice_track = _cut(_utter(plan, "foreign", voice))
    dry_voice = speak(voice_track, voice, rng_for(plan.seed, "voice"))

    # Lips and voice of a speaker are never exactly in sync, neither in real nor in fake clips.
    lag = natural_lag(rng_for(plan.seed, "lag"), FRAME_TIMES, level.jitter)
    mouth_times = FRAME_TIMES + LEAD_SECONDS + lag
    mouth = own_mouth = _cut(own).mouth_at(mouth_times)
    if method.lips != "own":
        driver = _cut(other)
        if method.lips == "loudness":
            driver = lips_from_loudness(_cut(own), driver, dry_voice)
        weight = segment_weight(FRAME_TIMES, _segment(plan), DURATION)[:, None]
        mouth = (1 - weight) * own_mouth + weight * driver.mouth_at(mouth_times)
    return Performance(voice_track, dry_voice, own_mouth, mouth)


def record(plan: ClipPlan, performance: Performance) -> np.ndarray:
    """The waveform ``(51_200,)`` float32: dry voice, room, vocoder if the method has one, channel."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    rng = rng_for(plan.seed, "room")
    waveform = room_and_noise(
        performance.dry_voice,
        rng,
        snr_db=rng.uniform(*level.snr_db),
        reverberation=rng.uniform(*level.reverberation),
    )
    if method.vocoded:
        rng = rng_for(plan.seed, "vocoder")
        mels = int(rng.integers(level.mels[0], level.mels[1] + 1))
        vocoded = vocode(waveform, int(rng.integers(2**31)), n_mels=mels, iterations=level.iterations)
        weight = _fake_weight(plan, SAMPLE_RATE).astype(np.float32)
        waveform = (1 - weight) * waveform + weight * vocoded
    waveform = waveform[round(LEAD_SECONDS * SAMPLE_RATE) :][: round(DURATION * SAMPLE_RATE)]
    rng = rng_for(plan.seed, "channel")
    return channel(
        waveform,
        rng,
        snr_db=rng.uniform(*level.channel_db),
        level=10 ** (rng.uniform(*LOUDNESS_RANGE_DB) / 20),
    )


def film(plan: ClipPlan, performance: Performance) -> np.ndarray:
    """The frames ``(80, 144, 144, 3)`` uint8: drawn, faked if the method does, through the camera."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    rng = rng_for(plan.seed, "film")
    scene_number = int(rng.integers(SCENES_PER_IDENTITY))
    identity = _face(plan.corpus_seed, plan.source)
    scene = _scene(plan.corpus_seed, plan.source, scene_number)
    scene = replace(scene, occlusion=Scene.sample(rng, occlusion=level.occlusion).occlusion)
    motion = Motion.sample(rng, len(FRAME_TIMES))
    own_mouth, mouth = performance.own_mouth, performance.mouth

    frames = render(identity, scene, motion, own_mouth if method.face == "blended" else mouth)
    if method.face != "drawn":
        rng = rng_for(plan.seed, "retouch")
        quality = rng.uniform(*level.quality)
        if method.face == "blended":
            other = frames if method.lips == "own" else render(identity, scene, motion, mouth)
            region = mouth_ellipse(identity, motion)
            fake = retouch.blend_mouth(frames, other, region, quality=quality, rng=rng)
        else:
            # Only the inner face is the donor's: hair and glasses remain those of the recording.
            donor = _face(plan.corpus_seed, _donor(plan)).lend_face(identity)
            other = render(donor, scene, motion, mouth)
            region = face_ellipse(identity, motion)
            fake = retouch.swap_face(frames, other, region, quality=quality, rng=rng)
        weight = segment_weight(FRAME_TIMES, _segment(plan), DURATION)[:, None, None, None].astype(np.float32)
        frames = (frames + weight * (fake.astype(np.float32) - frames) + 0.5).astype(np.uint8)
    return camera(frames, scene, rng_for(plan.seed, "camera"))


def _donor(plan: ClipPlan) -> int:
    if plan.donor is None:
        raise ValueError(f"the plan of {plan.path} has no donor, and its method {plan.method} needs one")
    return plan.donor


def _segment(plan: ClipPlan) -> tuple[float, float]:
    if plan.segment is None:
        raise ValueError(f"the plan of {plan.path} has no segment, and its method {plan.method} needs one")
    return plan.segment


def _utter(plan: ClipPlan, name: str, voice: Voice) -> Articulation:
    """A random utterance in words of the plan's split, `MARGIN_SECONDS` longer than the clip at both ends."""
    rng = rng_for(plan.seed, name)
    words = _lexicons(plan.corpus_seed)[plan.split]
    return articulate(sentence(rng, words), voice, DURATION + 2 * MARGIN_SECONDS, rng)


def _cut(utterance: Articulation, shift: float = 0.0) -> Articulation:
    """An utterance from ``-LEAD_SECONDS`` to ``DURATION + LEAD_SECONDS``, ``shift`` seconds late."""
    return utterance.window(MARGIN_SECONDS - LEAD_SECONDS - shift, DURATION + 2 * LEAD_SECONDS)


def _fake_weight(plan: ClipPlan, rate: int) -> np.ndarray:
    """`segment_weight` at ``rate`` Hz, from ``-LEAD_SECONDS`` to ``DURATION + LEAD_SECONDS``."""
    times = np.arange(round((DURATION + 2 * LEAD_SECONDS) * rate)) / rate - LEAD_SECONDS
    return segment_weight(times, plan.segment, DURATION) if plan.segment else np.zeros(len(times))


def _voice(corpus_seed: int, identity: int) -> Voice:
    return Voice.sample(rng_for(corpus_seed, "voice", identity))


def _face(corpus_seed: int, identity: int) -> Identity:
    return Identity.sample(rng_for(corpus_seed, "face", identity))


def _scene(corpus_seed: int, identity: int, number: int) -> Scene:
    return Scene.sample(rng_for(corpus_seed, "scene", identity, number))


@functools.lru_cache(maxsize=4)
def _lexicons(corpus_seed: int) -> dict[str, Lexicon]:
    """Words of each split; no word is in two splits."""
    rng = rng_for(corpus_seed, "lexicon")
    words = invent_lexicon(rng, sum(LEXICON_SIZES.values()))
    order = [words[index] for index in rng.permutation(len(words))]
    lexicons, first = {}, 0
    for split, size in LEXICON_SIZES.items():
        lexicons[split] = order[first : first + size]
        first += size
    return lexicons
