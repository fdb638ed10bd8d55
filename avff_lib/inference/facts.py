"""Facts about a file that need no training: its streams, and the lag of lips and voice.

They describe a file and do not judge it: a genuine recording that was cut, converted, or sent over a network
also has repeated frames, gaps and a lag.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from avff_lib.errors import AVFFError
from avff_lib.faces.tracked import TrackedClip
from avff_lib.inference.prediction import FileFacts
from avff_lib.inference.sync import LAGS, MAX_FRAME_INTERVAL, MIN_DURATION, SyncCurve, correlate_streams
from avff_lib.inference.timeline import runs
from avff_lib.media.audio import SILENCE_PEAK
from avff_lib.media.facts import MAX_SPANS, MediaFacts, Span

# Confidence of a reliable lag, by the measured duration; see `LipSync.min_confidence`.
CONFIDENCE_FLOOR, FLOOR_SECONDS, LOWEST_FLOOR = 0.3, 9.0, 0.1
NOTABLE_LAG = 0.1  # seconds; smaller ones are within the error of the method
DIGITAL_SILENCE = 2.0**-16  # peak amplitude: below the last of 16 bits, softer than any microphone
MIN_SILENCE_STEPS = 2
MIN_AUDIBLE_SHARE = 0.5  # of a frozen picture's time, for it to count
NOTABLE_REPEATS = (3, 0.1)  # frames, and their share
NOTABLE_OFFSET = 0.1  # seconds between the ends of picture and sound
NOTABLE_BANDWIDTH = 0.5  # share of half the sample rate, below which the bandwidth is remarkable
MAX_LISTED = 5  # parts in one sentence


class LipSync:
    """Averages the curves of lips against voice over the pieces of a file, by their length.

    Attributes:
        seconds: duration measured so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._total = np.zeros(len(LAGS))

    def update(self, piece: TrackedClip) -> None:
        """Take the next piece; one that cannot be measured is skipped."""
        speaker = piece.speaker()
        if speaker is None:
            return
        face = piece.faces[speaker]
        times = face.times
        if len(times) < 2 or len(face.lip_motion) == 0 or np.median(np.diff(times)) > MAX_FRAME_INTERVAL:
            return
        seconds = float(times[-1] - times[0])
        if seconds < MIN_DURATION:
            return
        try:
            curve = correlate_streams(face.lip_motion.cumsum(), piece.face_clip(speaker))
        except AVFFError:  # silent
            return
        self._total += seconds * curve.curve
        self.seconds += seconds

    @property
    def min_confidence(self) -> float:
        """Confidence below which a lag is not reliable.

        The confidence of lips with the voice of another clip arises by chance and falls with the square root
        of the length; so does this floor, down to `LOWEST_FLOOR`. It was chosen on 36 clips of GRID and 30
        drawn ones of 3 s each. Over three clips, 9 s, 3 % and 1 % of foreign voices reach it, and 46 % and
        25 % of the right ones, whose lag is then within 0.08 s in 94 % or more. For a single clip of 3 s,
        hardly any lag is reliable.
        """
        return max(LOWEST_FLOOR, CONFIDENCE_FLOOR * float(np.sqrt(FLOOR_SECONDS / max(self.seconds, 1e-9))))

    def mean(self) -> SyncCurve | None:
        """None if no piece could be measured."""
        return SyncCurve(LAGS, self._total / self.seconds) if self.seconds else None


def file_facts(
    media: MediaFacts, lip_sync: LipSync, peaks: Sequence[float], step: float, start: float
) -> FileFacts:
    """Facts about a file.

    Args:
        media: facts about its streams.
        lip_sync: lips against voice.
        peaks: amplitude of the sound, one for every ``step`` seconds from ``start`` on.
        step, start: in seconds.
    """
    sync = lip_sync.mean()
    loud = np.array(peaks) >= SILENCE_PEAK

    def audible(span: Span) -> bool:
        first, last = (round((time - start) / step) for time in (span.start, span.end))
        return bool(len(loud[first:last]) and loud[first:last].mean() >= MIN_AUDIBLE_SHARE)

    silence = [
        Span(round(start + first * step, 2), round(start + last * step, 2))
        for first, last in runs(peak < DIGITAL_SILENCE for peak in peaks)
        if last - first >= MIN_SILENCE_STEPS and first > 0 and last < len(peaks)
    ]
    return FileFacts(
        **vars(media) | {"frozen": tuple(span for span in media.frozen if audible(span))},
        digital_silence=tuple(silence[:MAX_SPANS]),
        lag=None if sync is None else round(sync.lag, 3),
        lag_confidence=None if sync is None else round(sync.confidence, 4),
        lag_reliable=None if sync is None else sync.confidence >= lip_sync.min_confidence,
    )


def summarize_facts(facts: FileFacts) -> list[str]:
    """What the file contains, and then what is remarkable about it, as short phrases."""
    return [*_streams(facts), *_remarkable(facts)]


def _streams(facts: FileFacts) -> Iterator[str]:
    rate = f" at {facts.frame_rate:.4g} fps" if facts.frame_rate else ""
    yield (
        f"{facts.video_codec} {facts.width}x{facts.height}{rate}, "
        f"{facts.audio_codec} {facts.sample_rate / 1000:g} kHz"
    )
    if facts.writer:
        yield f"written by {facts.writer}"


def _remarkable(facts: FileFacts) -> Iterator[str]:
    if facts.lag is not None and facts.lag_reliable and abs(facts.lag) >= NOTABLE_LAG:
        yield f"{lag_phrase(facts.lag)} (confidence {facts.lag_confidence:.2f})"
    least, share = NOTABLE_REPEATS
    if facts.repeated_frames >= max(least, share * facts.frames):
        yield f"{facts.repeated_frames} of {facts.frames} frames repeat the one before"
    if facts.frozen:
        yield f"the picture is frozen from {_list(facts.frozen)} s while the sound goes on"
    if facts.missing_frames:
        yield f"{facts.missing_frames} frames missing by the timestamps"
    if facts.variable_frame_rate:
        yield "variable frame rate"
    if abs(facts.sound_delay) >= NOTABLE_OFFSET:
        order = "after" if facts.sound_delay > 0 else "before"
        yield f"the sound starts {abs(facts.sound_delay):.2f} s {order} the picture"
    if facts.sound_shortfall >= NOTABLE_OFFSET:
        yield f"the sound ends {facts.sound_shortfall:.2f} s before the picture"
    if facts.digital_silence:
        yield f"digital silence from {_list(facts.digital_silence)} s"
    if facts.bandwidth is not None and facts.bandwidth < NOTABLE_BANDWIDTH * facts.sample_rate / 2:
        yield f"no sound above {facts.bandwidth / 1000:.1f} kHz"


def tabulate_facts(facts: FileFacts) -> list[tuple[str, str]]:
    """Every fact with its unit, as pairs of name and text; facts that cannot be measured say so."""
    unknown = "not measurable"
    if facts.lag is None:
        lag = unknown
    elif facts.lag_reliable:
        lag = f"{lag_phrase(facts.lag)} (confidence {facts.lag_confidence:.2f})"
    else:
        lag = f"not clear (confidence {facts.lag_confidence:.2f})"
    rate = {True: "variable", False: "constant", None: unknown}[facts.variable_frame_rate]
    picture = f"{facts.video_codec}, {facts.width} x {facts.height}, {facts.frame_rate:.4g} frames a second"
    sound = f"{facts.audio_codec}, {facts.sample_rate} Hz, channels: {facts.channels}"
    bandwidth = unknown if facts.bandwidth is None else f"up to {facts.bandwidth / 1000:.1f} kHz"
    return [
        ("Container", facts.container),
        ("Written by", facts.writer or "not stated"),
        ("Picture", picture),
        ("Sound", sound),
        ("Sound is heard", bandwidth),
        ("Lips and voice", lag),
        ("Frames that repeat the one before", f"{facts.repeated_frames} of {facts.frames}"),
        ("Frozen while the sound goes on", f"{_list(facts.frozen)} s" if facts.frozen else "nowhere"),
        ("Frame rate", rate),
        ("Missing frames", unknown if facts.missing_frames is None else str(facts.missing_frames)),
        ("Digital silence", f"{_list(facts.digital_silence)} s" if facts.digital_silence else "nowhere"),
        ("Sound starts after the picture by", f"{facts.sound_delay:.2f} s"),
        ("Sound ends before the picture by", f"{facts.sound_shortfall:.2f} s"),
    ]


def lag_phrase(lag: float) -> str:
    """The lag of a voice in seconds, in words."""
    if abs(lag) < 0.005:
        return "the voice comes with the lips"
    return f"the voice comes {abs(lag):.2f} s {'after' if lag > 0 else 'before'} the lips"


def _list(spans: Sequence[Span]) -> str:
    listed = ", ".join(f"{span.start:.1f} to {span.end:.1f}" for span in spans[:MAX_LISTED])
    return f"{listed} and {len(spans) - MAX_LISTED} more" if len(spans) > MAX_LISTED else listed
