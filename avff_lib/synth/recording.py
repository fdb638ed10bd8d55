"""From the plan of a clip to its frames and waveform, genuine or forged.

Everything random is drawn from streams named after their purpose and seeded by the plan, so that a
forged clip and its genuine twin share whatever the forgery does not touch: words, pose, light, noise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from avff_lib.clip import Clip
from avff_lib.synth import retouch
from avff_lib.synth.acoustics import channel, room_and_noise, vocode
from avff_lib.synth.face import Motion, camera, face_ellipse, mouth_ellipse, render
from avff_lib.synth.forgeries import LEVELS, METHODS, lips_from_loudness, natural_lag, segment_weight
from avff_lib.synth.phones import Lexicon, invent_lexicon, sentence
from avff_lib.synth.portrait import Identity, Scene
from avff_lib.synth.speech import SAMPLE_RATE, TRACK_RATE, Articulation, Voice, articulate, speak

DURATION = 3.2  # seconds
FRAME_RATE = 25
FRAME_TIMES = np.arange(round(DURATION * FRAME_RATE)) / FRAME_RATE
LEAD = 0.2  # seconds of sound made before and after the clip, so that it begins and ends in mid-speech
REACH = 0.8  # seconds of movement made before and after: the lead and the largest shift
# Level of a clip in dB of full scale. If it were the same for all, to the last digit, then the hundredth
# of a decibel that the encoder takes from a vocoded voice would tell it from a recorded one.
LOUDNESS = (-25.0, -21.0)
PLACES = 3  # rooms a person is filmed in
LEXICON_SIZES = {"train": 420, "val": 80, "test": 120}  # words; no word is in two splits


@dataclass(frozen=True)
class ClipPlan:
    """All that is needed to make one clip.

    Attributes:
        path: of the file, relative to the corpus.
        split: ``"train"``, ``"val"`` or ``"test"``; it decides which words are spoken.
        method: a key of `METHODS`.
        level: a key of `LEVELS`.
        source: number of the person recorded.
        donor: number of the person whose voice or face is put in, if any.
        segment: (start, end) of the forged part in seconds, or None for a genuine clip.
        crf: of the video's encoding.
        corpus_seed: decides what the people and words are.
        seed: decides everything else.
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
    """What is said and shown, before microphone and camera.

    Attributes:
        heard: what the voice of the clip does, from ``-LEAD`` to ``DURATION + LEAD``.
        voice: float32, the dry sound of ``heard``, ``HOP`` samples for each step of it.
        own_mouth: ``(T, 5)`` shapes of the mouth that was recorded, at `FRAME_TIMES`.
        mouth: ``(T, 5)`` shapes of the mouth that is shown.
    """

    heard: Articulation
    voice: np.ndarray
    own_mouth: np.ndarray
    mouth: np.ndarray


def genuine_twin(plan: ClipPlan) -> ClipPlan:
    """The same recording before it was forged."""
    return replace(plan, method="real", donor=None, segment=None)


def stream(*key: int | str) -> np.random.Generator:
    """A random generator of its own for each key, such as ``stream(seed, "room")``."""
    numbers: list[int] = []
    for part in key:
        numbers += part.encode() if isinstance(part, str) else [part]
    return np.random.default_rng(numbers)


def make_clip(plan: ClipPlan) -> Clip:
    """Perform, film and record what ``plan`` says.

    Returns:
        a clip of 3.2 s: 80 frames of 144x144 at 25 fps and 51,200 samples at 16 kHz.
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
    """What is said and shown in a clip: the tracks of lips and voice, and the dry voice."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    voice = _voice(plan.corpus_seed, plan.source)
    own = other = _utter(plan, "own", voice)
    if "other" in (method.voice, method.lips) or method.lips == "loudness":
        other = _utter(plan, "other", voice)
    weight = _forged_share(plan, TRACK_RATE)

    heard = _staged(own)
    if method.voice == "shifted":
        rng = stream(plan.seed, "shift")
        shift = rng.choice((-1, 1)) * rng.uniform(*level.shift)
        heard = heard.splice(_staged(own, shift), weight)
    elif method.voice == "other":
        heard = heard.splice(_staged(other), weight)
    elif method.voice == "foreign":
        voice = _voice(plan.corpus_seed, plan.donor)
        heard = _staged(_utter(plan, "foreign", voice))
    sound = speak(heard, voice, stream(plan.seed, "voice"))

    # Lips and voice of one person are never quite in step, forged or not.
    seen_at = FRAME_TIMES + LEAD + natural_lag(stream(plan.seed, "lag"), FRAME_TIMES, level.jitter)
    mouth = own_mouth = _staged(own).mouth_at(seen_at)
    if method.lips != "own":
        driver = _staged(other)
        if method.lips == "loudness":
            driver = lips_from_loudness(_staged(own), driver, sound)
        weight = segment_weight(FRAME_TIMES, plan.segment, DURATION)[:, None]
        mouth = (1 - weight) * own_mouth + weight * driver.mouth_at(seen_at)
    return Performance(heard, sound, own_mouth, mouth)


def record(plan: ClipPlan, performance: Performance) -> np.ndarray:
    """The waveform ``(51_200,)`` float32: room, vocoder if used, and channel."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    rng = stream(plan.seed, "room")
    waveform = room_and_noise(
        performance.voice,
        rng,
        snr_db=rng.uniform(*level.snr_db),
        reverberation=rng.uniform(*level.reverberation),
    )
    if method.vocoded:
        rng = stream(plan.seed, "vocoder")
        mels = int(rng.integers(level.mels[0], level.mels[1] + 1))
        vocoded = vocode(waveform, int(rng.integers(2**31)), n_mels=mels, iterations=level.iterations)
        weight = _forged_share(plan, SAMPLE_RATE).astype(np.float32)
        waveform = (1 - weight) * waveform + weight * vocoded
    waveform = waveform[round(LEAD * SAMPLE_RATE) :][: round(DURATION * SAMPLE_RATE)]
    rng = stream(plan.seed, "channel")
    return channel(
        waveform, rng, snr_db=rng.uniform(*level.channel_db), level=10 ** (rng.uniform(*LOUDNESS) / 20)
    )


def film(plan: ClipPlan, performance: Performance) -> np.ndarray:
    """The frames ``(80, 144, 144, 3)`` uint8: the person drawn, the picture forged if it is, the camera."""
    method, level = METHODS[plan.method], LEVELS[plan.level]
    rng = stream(plan.seed, "film")
    place = int(rng.integers(PLACES))
    identity, scene = _face(plan.corpus_seed, plan.source), _scene(plan.corpus_seed, plan.source, place)
    scene = replace(scene, occlusion=Scene.sample(rng, occlusion=level.occlusion).occlusion)
    motion = Motion.sample(rng, len(FRAME_TIMES))
    own, shown = performance.own_mouth, performance.mouth

    frames = render(identity, scene, motion, own if method.picture == "blended" else shown)
    if method.picture != "drawn":
        rng = stream(plan.seed, "retouch")
        quality = rng.uniform(*level.quality)
        if method.picture == "blended":
            other = frames if method.lips == "own" else render(identity, scene, motion, shown)
            where = mouth_ellipse(identity, motion)
            forged = retouch.blend_mouth(frames, other, where, quality=quality, rng=rng)
        else:
            # Only the inner face is another person's: hair and glasses stay those of the recording.
            donor = _face(plan.corpus_seed, plan.donor).lend_face(identity)
            donor = render(donor, scene, motion, shown)
            where = face_ellipse(identity, motion)
            forged = retouch.swap_face(frames, donor, where, quality=quality, rng=rng)
        weight = segment_weight(FRAME_TIMES, plan.segment, DURATION)[:, None, None, None].astype(np.float32)
        frames = (frames + weight * (forged.astype(np.float32) - frames) + 0.5).astype(np.uint8)
    return camera(frames, scene, stream(plan.seed, "camera"))


def _utter(plan: ClipPlan, name: str, voice: Voice) -> Articulation:
    """A random utterance in the words of the plan's split, from ``-REACH`` to ``DURATION + REACH``."""
    rng = stream(plan.seed, name)
    words = _lexicons(plan.corpus_seed)[plan.split]
    return articulate(sentence(rng, words), voice, DURATION + 2 * REACH, rng)


def _staged(utterance: Articulation, shift: float = 0.0) -> Articulation:
    """The part of an utterance from ``-LEAD`` to ``DURATION + LEAD``, ``shift`` seconds late."""
    return utterance.window(REACH - LEAD - shift, DURATION + 2 * LEAD)


def _forged_share(plan: ClipPlan, rate: int) -> np.ndarray:
    """How much of the forgery is present, at ``rate`` from ``-LEAD`` to ``DURATION + LEAD``."""
    times = np.arange(round((DURATION + 2 * LEAD) * rate)) / rate - LEAD
    return segment_weight(times, plan.segment, DURATION) if plan.segment else np.zeros(len(times))


def _voice(corpus_seed: int, person: int) -> Voice:
    return Voice.sample(stream(corpus_seed, "voice", person))


def _face(corpus_seed: int, person: int) -> Identity:
    return Identity.sample(stream(corpus_seed, "face", person))


def _scene(corpus_seed: int, person: int, place: int) -> Scene:
    return Scene.sample(stream(corpus_seed, "scene", person, place))


@functools.lru_cache(maxsize=4)
def _lexicons(corpus_seed: int) -> dict[str, Lexicon]:
    """The words of each split."""
    rng = stream(corpus_seed, "lexicon")
    words = invent_lexicon(rng, sum(LEXICON_SIZES.values()))
    order = [words[index] for index in rng.permutation(len(words))]
    lexicons, first = {}, 0
    for split, size in LEXICON_SIZES.items():
        lexicons[split] = order[first : first + size]
        first += size
    return lexicons
