"""The speech sounds of an invented language, and random sentences of it.

Formant targets of the vowels are those of Peterson and Barney (1952, doi:10.1121/1.1906875) for men; mouth
targets are set by eye. The words have no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOUTH = ("opening", "width", "rounding", "teeth", "tongue")  # columns of a mouth shape
MouthShape = tuple[float, float, float, float, float]


@dataclass(frozen=True)
class Phone:
    """Targets of one speech sound.

    Attributes:
        kind: ``"vowel"``, ``"sonorant"``, ``"fricative"``, ``"plosive"`` or ``"pause"``.
        seconds: typical duration.
        formants: F1, F2, F3 in Hz.
        mouth: the columns of `MOUTH`; an opening below 0 presses the lips together.
        lips: weight of its mouth targets against those of its neighbours (coarticulation).
        tract: weight of its formant targets.
        voicing, breath, frication, nasality: amplitudes; of a plosive, frication is its burst.
        center, spread: of the frication noise, in Hz.
    """

    kind: str
    seconds: float
    formants: tuple[float, float, float]
    mouth: MouthShape
    lips: float = 1.0
    tract: float = 1.0
    voicing: float = 0.0
    breath: float = 0.0
    frication: float = 0.0
    center: float = 3000.0
    spread: float = 1000.0
    nasality: float = 0.0


def _vowel(f1: float, f2: float, f3: float, *mouth: float, lips: float = 1.0) -> Phone:
    return Phone("vowel", 0.105, (f1, f2, f3), _shape(mouth), lips, voicing=1.0)


def _sonorant(
    f1: float, f2: float, f3: float, *mouth: float, lips: float, voicing: float = 0.7, nasality: float = 0.0
) -> Phone:
    return Phone("sonorant", 0.07, (f1, f2, f3), _shape(mouth), lips, 1.5, voicing, nasality=nasality)


Noise = tuple[float, float, float]  # level, center and spread of frication noise


def _fricative(
    f1: float, f2: float, f3: float, *mouth: float, lips: float, noise: Noise, voicing: float = 0.0
) -> Phone:
    return Phone("fricative", 0.1, (f1, f2, f3), _shape(mouth), lips, 0.7, voicing, 0.0, *noise)


def _plosive(
    f1: float, f2: float, f3: float, *mouth: float, lips: float, noise: Noise, voicing: float = 0.0
) -> Phone:
    return Phone("plosive", 0.09, (f1, f2, f3), _shape(mouth), lips, 0.8, voicing, 0.0, *noise)


def _shape(mouth: tuple[float, ...]) -> MouthShape:
    opening, width, rounding, teeth, tongue = mouth
    return opening, width, rounding, teeth, tongue


#                         F1   F2    F3  opening width rounding teeth tongue
PHONES: dict[str, Phone] = {
    "SIL": Phone("pause", 0.2, (500, 1500, 2500), (0.03, 0.5, 0.0, 0.0, 0.0), lips=0.8, tract=0.2),
    "IY": _vowel(270, 2290, 3010, 0.22, 0.90, 0.00, 0.7, 0.2),
    "IH": _vowel(390, 1990, 2550, 0.32, 0.72, 0.00, 0.6, 0.2),
    "EH": _vowel(530, 1840, 2480, 0.48, 0.68, 0.00, 0.5, 0.2),
    "AE": _vowel(660, 1720, 2410, 0.72, 0.75, 0.00, 0.4, 0.2),
    "AA": _vowel(730, 1090, 2440, 0.95, 0.50, 0.05, 0.3, 0.1),
    "AO": _vowel(570, 840, 2410, 0.72, 0.30, 0.55, 0.1, 0.1),
    "UW": _vowel(300, 870, 2240, 0.20, 0.10, 1.00, 0.0, 0.0, lips=1.5),
    "AH": _vowel(640, 1190, 2390, 0.55, 0.50, 0.05, 0.3, 0.1),
    "ER": _vowel(490, 1350, 1690, 0.36, 0.32, 0.45, 0.4, 0.2),
    "W": _sonorant(290, 610, 2150, 0.06, 0.05, 1.00, 0.0, 0.0, lips=2.0),
    "L": _sonorant(360, 1050, 2900, 0.40, 0.55, 0.00, 0.4, 0.9, lips=0.6),
    "R": _sonorant(310, 1060, 1380, 0.25, 0.28, 0.55, 0.4, 0.2, lips=1.0),
    "M": _sonorant(250, 1100, 2130, -0.20, 0.50, 0.00, 0.0, 0.0, lips=3.0, voicing=0.6, nasality=1.0),
    "N": _sonorant(280, 1650, 2500, 0.25, 0.55, 0.00, 0.6, 0.7, lips=0.5, voicing=0.6, nasality=1.0),
    "F": _fricative(340, 1100, 2080, 0.06, 0.55, 0.00, 1.0, 0.0, lips=2.5, noise=(0.16, 5500, 2500)),
    "V": _fricative(
        280, 1100, 2080, 0.06, 0.55, 0.00, 1.0, 0.0, lips=2.5, noise=(0.06, 5500, 2500), voicing=0.35
    ),
    "S": _fricative(320, 1390, 2530, 0.14, 0.68, 0.00, 1.0, 0.1, lips=0.8, noise=(0.6, 6000, 1000)),
    "SH": _fricative(300, 1840, 2750, 0.22, 0.22, 0.75, 0.8, 0.0, lips=1.5, noise=(0.6, 3400, 900)),
    "HH": Phone("fricative", 0.07, (500, 1500, 2500), (0.4, 0.5, 0, 0.3, 0.1), 0.1, 0.05, breath=0.35),
    "P": _plosive(250, 800, 2100, -0.20, 0.50, 0.05, 0.0, 0.0, lips=3.0, noise=(0.4, 900, 900)),
    "B": _plosive(220, 800, 2100, -0.20, 0.50, 0.05, 0.0, 0.0, lips=3.0, noise=(0.2, 900, 900), voicing=0.2),
    "T": _plosive(280, 1700, 2600, 0.20, 0.58, 0.00, 0.7, 0.6, lips=0.5, noise=(0.7, 4800, 1500)),
    "D": _plosive(
        220, 1700, 2600, 0.20, 0.58, 0.00, 0.7, 0.6, lips=0.5, noise=(0.35, 4500, 1500), voicing=0.2
    ),
    "K": _plosive(280, 1950, 2400, 0.30, 0.50, 0.00, 0.4, 0.1, lips=0.2, noise=(0.6, 2000, 500)),
    "G": _plosive(220, 1950, 2400, 0.30, 0.50, 0.00, 0.4, 0.1, lips=0.2, noise=(0.3, 1900, 500), voicing=0.2),
}
VOWELS = tuple(name for name, phone in PHONES.items() if phone.kind == "vowel")
CONSONANTS = tuple(name for name, phone in PHONES.items() if phone.kind not in ("vowel", "pause"))
Lexicon = list[tuple[str, ...]]  # words as phone names


def invent_lexicon(rng: np.random.Generator, size: int) -> Lexicon:
    """``size`` different random words of one to three syllables."""
    words: set[tuple[str, ...]] = set()
    while len(words) < size:
        word: list[str] = []
        for _ in range(rng.choice([1, 2, 3], p=[0.35, 0.45, 0.2])):
            onset = [rng.choice(CONSONANTS)] if rng.random() < 0.9 else []
            coda = [rng.choice(CONSONANTS)] if rng.random() < 0.3 else []
            word += [*onset, rng.choice(VOWELS), *coda]
        words.add(tuple(str(phone) for phone in word))
    return sorted(words)


def sentence(rng: np.random.Generator, lexicon: Lexicon, n_words: int = 32) -> list[str]:
    """Phone names of ``n_words`` random words, with a pause after each phrase of three to six."""
    phones = ["SIL"]
    words_to_pause = int(rng.integers(3, 7))
    for index in rng.integers(len(lexicon), size=n_words):
        phones += lexicon[index]
        words_to_pause -= 1
        if words_to_pause == 0:
            phones.append("SIL")
            words_to_pause = int(rng.integers(3, 7))
    return [*phones, "SIL"]
