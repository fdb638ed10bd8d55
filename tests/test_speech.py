"""The synthesiser: does the voice do what the articulation track says?"""

import numpy as np
import pytest
import torch

from avff_lib.synth.acoustics import room_and_noise, vocode
from avff_lib.synth.phones import MOUTH, PHONES, invent_lexicon, sentence
from avff_lib.synth.speech import (
    ACOUSTICS,
    HOP_LENGTH,
    SAMPLE_RATE,
    TRACK_RATE,
    Articulation,
    Voice,
    articulate,
    speak,
)

PLAIN = Voice(pitch=120.0, pitch_range=2.0, tract=1.0, breath=0.0, tilt=4000.0, rate=1.0, effort=1.0)


def utterance(seed: int, duration: float = 3.2) -> tuple[Articulation, np.ndarray]:
    rng = np.random.default_rng(seed)
    voice = Voice.sample(rng)
    track = articulate(sentence(rng, invent_lexicon(rng, 60)), voice, duration, rng)
    return track, speak(track, voice, rng)


def sustained(phone: str, seconds: float = 1.0) -> Articulation:
    """A track that holds one phone, at a steady pitch of 100 Hz."""
    target = PHONES[phone]
    values = dict.fromkeys(ACOUSTICS, 0.0) | {"pitch": 100.0, "voicing": target.voicing}
    values |= dict(zip(ACOUSTICS[:3], target.formants, strict=True))
    values |= {"frication": target.frication, "center": target.center, "spread": target.spread}
    count = round(seconds * TRACK_RATE)
    sound = np.tile(np.array([values[name] for name in ACOUSTICS], np.float32), (count, 1))
    return Articulation(np.tile(np.array(target.mouth, np.float32), (count, 1)), sound)


def power_spectrum(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    return np.fft.rfftfreq(len(middle), 1 / SAMPLE_RATE), np.abs(
        np.fft.rfft(middle * np.hanning(len(middle)))
    ) ** 2


def test_shapes_ranges_and_determinism():
    track, waveform = utterance(0)
    assert track.mouth.shape == (640, len(MOUTH))
    assert track.acoustics.shape == (640, len(ACOUSTICS))
    assert waveform.shape == (640 * HOP_LENGTH,)
    assert waveform.dtype == np.float32
    assert track.mouth.min() >= 0
    assert track.mouth.max() <= 1
    assert np.sqrt(np.mean(waveform**2)) == pytest.approx(0.1, rel=1e-3)
    np.testing.assert_array_equal(waveform, utterance(0)[1])
    assert not np.array_equal(waveform, utterance(1)[1])


@pytest.mark.parametrize("labial", ["P", "B", "M"])
def test_labials_close_the_lips_between_open_vowels(labial):
    phones = ["SIL", "AA", labial, "AA", labial] * 20 + ["SIL"]
    opening = articulate(phones, PLAIN, 3.0, np.random.default_rng(0)).mouth[:, 0]
    assert opening.max() > 0.6
    assert np.mean(opening < 0.03) > 0.15


@pytest.mark.parametrize("vowel", ["IY", "AA", "UW"])
def test_a_vowel_has_its_pitch_and_formants(vowel):
    waveform = speak(sustained(vowel), PLAIN, np.random.default_rng(0))
    frequency, power = power_spectrum(waveform)
    harmonics = np.array([power[np.abs(frequency - 100 * k).argmin()] for k in range(1, 30)])
    between = np.array([power[np.abs(frequency - 100 * k - 50).argmin()] for k in range(1, 30)])
    assert np.median(harmonics / between) > 100
    for formant in PHONES[vowel].formants[:2]:
        nearest = round(formant / 100) - 1
        near = harmonics[max(nearest - 1, 0) : nearest + 2].max()
        # A formant is a hill: the harmonics 300 Hz above it are weaker.
        assert near > harmonics[nearest + 3 : nearest + 5].max()


def test_fricatives_sound_at_their_own_place():
    centroids = {}
    for phone in ("S", "SH"):
        frequency, power = power_spectrum(speak(sustained(phone), PLAIN, np.random.default_rng(0)))
        centroids[phone] = (frequency * power).sum() / power.sum()
    assert centroids["S"] > 5000 > 4200 > centroids["SH"]


def test_a_longer_tract_lowers_the_voice():
    def centroid(tract: float) -> float:
        voice = Voice(**{**vars(PLAIN), "tract": tract})
        frequency, power = power_spectrum(speak(sustained("AA"), voice, np.random.default_rng(0)))
        return (frequency * power).sum() / power.sum()

    assert centroid(1.1) < centroid(0.9) - 50


def test_lips_and_voice_belong_together():
    def correlation(shift: int) -> float:
        values = []
        for seed in range(8):
            track, waveform = utterance(seed)
            loudness = np.log(np.sqrt(np.mean(waveform.reshape(-1, HOP_LENGTH) ** 2, axis=1)) + 1e-3)
            values.append(np.corrcoef(np.roll(track.mouth[:, 0], shift), loudness)[0, 1])
        return float(np.mean(values))

    assert correlation(0) > 0.4
    assert abs(correlation(60)) < 0.2


def test_too_short_a_sentence_is_refused():
    with pytest.raises(ValueError, match="add words"):
        articulate(["SIL", "AA", "SIL"], PLAIN, 3.2, np.random.default_rng(0))


def test_window_and_splice():
    track, _ = utterance(2)
    part = track.window(1.0, 0.5)
    np.testing.assert_array_equal(part.mouth, track.mouth[200:300])
    weight = np.linspace(0, 1, 100)
    mixed = part.splice(track.window(2.0, 0.5), weight)
    np.testing.assert_array_equal(mixed.acoustics[0], part.acoustics[0])
    np.testing.assert_array_equal(mixed.acoustics[-1], track.acoustics[499])
    with pytest.raises(ValueError, match="outside"):
        track.window(3.0, 0.5)


def test_noise_has_the_ratio_asked_for_and_the_room_does_not_delay():
    _, dry = utterance(3)

    def wet(snr_db: float) -> np.ndarray:
        return room_and_noise(dry, np.random.default_rng(5), snr_db=snr_db, reverberation=0.3).astype(float)

    clean, noisy = wet(150), wet(12)
    assert 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) == pytest.approx(12, abs=0.05)
    lags = np.arange(-50, 51)
    match = [np.dot(np.roll(clean, -lag), dry) for lag in lags]
    assert lags[int(np.argmax(match))] == 0
    assert not np.allclose(clean, dry, atol=1e-3)


def test_vocoder_keeps_the_words_and_loses_the_waveform():
    _, waveform = utterance(4)
    before = torch.random.get_rng_state()
    result = vocode(waveform, seed=1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert result.shape == waveform.shape
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, vocode(waveform, seed=1))

    def loudness(x: np.ndarray) -> np.ndarray:
        return np.sqrt(np.mean(x.reshape(-1, 320) ** 2, axis=1))

    assert np.corrcoef(loudness(waveform), loudness(result))[0, 1] > 0.97
    assert abs(np.corrcoef(waveform, result)[0, 1]) < 0.9
