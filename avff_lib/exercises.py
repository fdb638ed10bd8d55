"""The answers to the book's exercises, and a check that tells a right one from a wrong one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Value = bool | int | float | str | Sequence["Value"]


@dataclass(frozen=True)
class Answer:
    """What an exercise asks for.

    Attributes:
        expected: a number, a word, or several of them in order.
        hint: what to look at again after a wrong answer, without giving the right one away.
        tolerance: how far a number may lie from the expected one.
    """

    expected: Value
    hint: str
    tolerance: float = 0.0

    def matches(self, given: object) -> bool:
        """Whether an answer is right; arrays and tensors count as the numbers in them."""
        return _close(given, self.expected, self.tolerance)


def _close(given: object, expected: Value, tolerance: float) -> bool:
    if hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(expected, str):
        return isinstance(given, str) and given.strip().lower() == expected.lower()
    if isinstance(expected, Sequence):
        return (
            isinstance(given, Sequence)
            and not isinstance(given, str)
            and len(given) == len(expected)
            and all(_close(one, other, tolerance) for one, other in zip(given, expected, strict=True))
        )
    if isinstance(expected, bool):
        return given is expected
    if not isinstance(given, int | float) or isinstance(given, bool):
        return False
    return math.isclose(given, expected, rel_tol=1e-9, abs_tol=tolerance)


def check(exercise: str, given: object) -> None:
    """Print whether an answer is right, and a hint if it is not.

    Args:
        exercise: label of the exercise, such as ``"ex-fusion-matrix"``.
        given: the reader's answer; ``...`` where there is none yet.

    Raises:
        KeyError: if no exercise has this label.
    """
    if exercise not in ANSWERS:
        raise KeyError(f"no exercise is called {exercise!r}; its label is in the starter cell below it")
    answer = ANSWERS[exercise]
    if given is ... or (isinstance(given, Sequence) and any(one is ... for one in given)):
        print("Not answered yet: replace the dots and run the cell again.")
    elif answer.matches(given):
        print("Right.")
    else:
        print(f"Not yet. {answer.hint}")


ANSWERS: dict[str, Answer] = {
    # 01 Quickstart
    "ex-quick-threshold": Answer(
        0.31,
        "The rate of false positives is zero once the threshold exceeds the highest of the real scores.",
        tolerance=0.05,
    ),
    "ex-quick-long": Answer(
        11_698,
        "A real file is labelled real only if all of its windows stay below: how probable is that?",
        tolerance=60,
    ),
    "ex-quick-sync": Answer(
        0.95,
        "Shift only the waveform, not the frames, and average over both directions and all five recordings.",
        tolerance=0.1,
    ),
    # 02 The corpus
    "ex-corpus-partial": Answer(
        0.315,
        "Only nine of the ten methods ever make a partial fake, and all ten make equally many fakes.",
        tolerance=0.002,
    ),
    "ex-corpus-target": Answer(
        1.0,
        "Count the donors of the test clips who occur in a training clip, as its source or as its donor.",
        tolerance=0.02,
    ),
    "ex-corpus-silence": Answer(
        (1.0, 0.5),
        "A recording with noise never begins with exact zeros; after the cut, no planted sample is left.",
        tolerance=0.03,
    ),
    # 03 Image preprocessing
    "ex-image-range": Answer(
        (-2.12, 2.64),
        "A black pixel gives the smallest values, a white one the largest; compare the three channels.",
        tolerance=0.006,
    ),
    "ex-image-letterbox": Answer(
        126,
        "The frame keeps its shape of 640 by 360; its longer side becomes 224 pixels.",
    ),
    "ex-image-gap": Answer(
        78.75,
        "Take the nearest frame of each wanted moment, then the largest of the sixteen distances, in ms.",
        tolerance=0.6,
    ),
    # 04 Audio preprocessing
    "ex-audio-columns": Answer(
        (800, 14),
        "A hop of 4 ms is 64 samples; a filter is empty if all of its weights are zero.",
    ),
    "ex-audio-slaney": Answer(
        (-4.6, -25.1),
        "Average each log-mel over time, and subtract HTK's from Slaney's, not the other way round.",
        tolerance=0.3,
    ),
    "ex-audio-detector": Answer(
        (1.0, 0.82),
        "A re-voiced clip has less contrast, so the score of fake is minus C, without a threshold.",
        tolerance=0.05,
    ),
    # 05 Lips and voice
    "ex-sync-delay": Answer(
        80, "Divide each correlation at lag zero by that of the undelayed clip, and look for less than 0.5."
    ),
    "ex-sync-where": Answer(
        (25, 18),
        "Bring each pixel's curve and the loudness to mean 0 and deviation 1, average their product over "
        "time, and take the largest absolute value; row comes before column.",
        tolerance=5,
    ),
    "ex-sync-two-sided": Answer(
        (0.70, 0.97),
        "Score a clip by its distance from the mean of `fitted`, in standard deviations of `fitted`; the AUC "
        "compares the fakes with `tested` alone.",
        tolerance=0.12,
    ),
    # 06 Audio encoders
    "ex-ae-clock": Answer(
        17.3,
        "Take the largest absolute difference of `equal_parts` and `STEPS`, in milliseconds.",
        tolerance=0.06,
    ),
    "ex-ae-standardise": Answer(
        ("1000 times softer", 3),
        "Compute the error of all five variants; the encoder takes a batch, `waveform[None]`.",
    ),
    "ex-ae-group": Answer(
        (100, 96),
        "Take `input_gradient` of a function that returns `grouped(waveform).mT`; for the change, compare "
        "the steps that end within the first 4,000 samples.",
        tolerance=3,
    ),
    # 07 Visual encoders
    "ex-visual-count": Answer(
        (392, 49, 16),
        "Divide time, height and width by the sides of a tubelet; an attention map has a weight for each "
        "pair of tokens.",
    ),
    "ex-visual-inflate": Answer(
        (0.5, 0.69),
        "Set both time steps of the tubelet's weight, along axis 2, and copy the bias; compare the second "
        "AUC with that of a single frame above.",
        tolerance=0.06,
    ),
    "ex-visual-gap": Answer(
        (3, 7),
        "For each gap, make the pairs and average the AUC of the tubelets over seeds 0, 1 and 2; the answers "
        "are gaps in frames, not milliseconds.",
    ),
    # 08 Cross-modal fusion
    "ex-fusion-matrix": Answer(
        33_024, "Which rows of in_proj_weight matter when the only weight is 1? Count the biases too."
    ),
    "ex-fusion-index": Answer(
        (15, 0.65),
        "Take the step whose code is most similar to the last frame's; subtract its time from 0.97 s.",
        tolerance=0.01,
    ),
    "ex-fusion-clock": Answer(
        0.22, "Turn the queries' codes only, forwards, and measure at a lag of + 0.2 s.", tolerance=0.03
    ),
    # 09 Agreement and detail
    "ex-detail-edge": Answer(
        (1.6, 0.4),
        "Of the square's five columns, how many are dark and how many bright, beside the edge?",
        tolerance=0.05,
    ),
    "ex-agreement-ignores": Answer(
        (1, 1, -1, -0.1),
        "Which step determines the mean over time that is subtracted from every frame?",
        tolerance=0.15,
    ),
    "ex-fusion-other-words": Answer(
        (0.5, 1.0),
        "Negate the peaks, as low agreement suggests a fake, and compare each forgery with all real clips.",
        tolerance=0.15,
    ),
    # 10 Decoder and classifier
    "ex-heads-count": Answer(
        788_992, "Add up the layer norm (2 D), the first layer and the second, each with its biases."
    ),
    "ex-heads-help": Answer(
        1.5, "Keep the frames and their targets; only the sound that is encoded changes.", tolerance=0.3
    ),
    "ex-heads-logistic": Answer(
        0.97,
        "Fake is 1, and the foreign voices of the training windows are another person's.",
        tolerance=0.04,
    ),
    # 11 Masked fusion
    "ex-masked-count": Answer(
        (70, 1 / 70),
        "A mask is a choice of four slices out of eight, and each is equally likely.",
        tolerance=0.008,
    ),
    "ex-masked-shift": Answer(
        160,
        "Compare, shift by shift, the mean error with the matching face and that with faces rolled by one.",
        tolerance=80,
    ),
    "ex-masked-detector": Answer(
        (0.95, 0.6, 0.5),
        "A higher error means fake; average the two windows of a clip, and keep the order of the three.",
        tolerance=0.2,
    ),
    # 12 Stage one
    "ex-stage-one-candidates": Answer(
        ("chance", 11.0),
        "Chance is one over the number of candidates, eight for each person; divide the share by it.",
        tolerance=5.0,
    ),
    "ex-stage-one-temperature": Answer(
        3.86,
        "The loss is minus the log of the match's share in a sum of 128 exponentials of cosines.",
        tolerance=0.01,
    ),
    "ex-stage-one-late": Answer(
        80,
        "A positive lag is a late voice. Take the lag of the curve's highest point, not its height.",
        tolerance=40,
    ),
    # 13 Stage two
    "ex-two-alarm": Answer(
        (0.019, 0.999),
        "Start from the evidence of a positive, log(0.95 / 0.05), add the log odds; then take the sigmoid.",
        tolerance=0.001,
    ),
    "ex-two-labels": Answer(
        35,
        "Fit LogisticRegression(C=0.1) to probe_inputs of the training windows, all of them, once for each "
        "encoder; 100 times the difference of the two test AUCs.",
        tolerance=20,
    ),
    "ex-two-unseen": Answer(
        (0.98, 0.96),
        "Stack the evidence of right voices and of fakes, with `late` in the place of `foreign`: four "
        "windows a person in training, two in the test.",
        tolerance=0.06,
    ),
    # 14 What training achieved
    "ex-two-mix": Answer(
        0.51,
        "The overall AUC is share * worst + (1 - share) * rest; solve that for the share.",
        tolerance=0.01,
    ),
    "ex-two-better": Answer(
        (8, 0),
        "Two sets of runs are apart where the lowest value of one is above the highest of the other; first "
        "of the AUCs, then of the ends of the intervals.",
    ),
    "ex-two-half": Answer(
        "first",
        "One of the three methods changes the sound alone; without the audio's half that one is lost.",
    ),
    # 15 Inference
    "ex-infer-odds": Answer(
        (0.999, 0.9999474),
        "Solve for the logit of p: the log odds of 1 in 1,000 are negative; the score must outweigh them.",
        tolerance=2e-5,
    ),
    "ex-infer-long": Answer(
        10,
        "Count the windows that are added, not all of them, and compare with the threshold of files.",
        tolerance=2,
    ),
    "ex-infer-groups": Answer(
        (0.91, 0.775),
        "Average the calibrated scores of the fakes of one family only, without the real clips.",
        tolerance=0.02,
    ),
    # 16 Evaluation
    "ex-eval-three": Answer(
        299,
        "3 / n is an approximation: solve (1 - p)^n = 0.05 for n at p = 0.01, and round up.",
    ),
    "ex-eval-worst": Answer(
        0.94,
        "In each shuffle take the mean rank of each of the ten groups and keep the lowest; then the median.",
        tolerance=0.008,
    ),
    "ex-eval-labels": Answer(
        0.06,
        "Put an AUC of 1 into the right side of the formula and 0.97 on the left.",
        tolerance=0.001,
    ),
    # 17 Attribution
    "ex-attribution-baseline": Answer(
        (0.01, "audio"),
        "Take the first of the two numbers of explain.rank_correlation, and compare the sums of both maps in "
        "against_grey.",
        tolerance=0.15,
    ),
    "ex-attribution-smooth": Answer(
        6.5,
        "Average slopes(...)[0] over the noisy copies, multiply by the distance of the frames from the blank "
        "ones, and add up the three colours of each point.",
        tolerance=0.4,
    ),
    "ex-attribution-expected": Answer(
        6.5,
        "Add up the cells of both streams; by completeness they make the logit minus the mean logit of the "
        "baselines.",
        tolerance=0.5,
    ),
    # 18 Your own data
    "ex-own-repeat": Answer(
        (0.21, 4.62),
        "Either copy may be the one in train, so two cases add up; the mean is 22 times the probability.",
        tolerance=0.03,
    ),
    "ex-own-seam": Answer(
        2.6,
        "Shift with np.roll along the width, brighten only the shifted copy, and average the absolute change "
        "over all pixels and colours of the frame.",
        tolerance=0.3,
    ),
    "ex-own-bill": Answer(
        (1, 4995),
        "A node has CORES times 86,400 core-seconds a day, measured['predict'] tells what a second of video "
        "takes, and only genuine uploads can be accused wrongly.",
        tolerance=0.5,
    ),
    # 19 From drawings to people
    "ex-people-lag": Answer(
        (0.6, 35),
        "Look at the last entry of model.lags, and count the frames of a window whose partner so many frames "
        "later still lies inside it.",
        tolerance=0.01,
    ),
    "ex-people-length": Answer(
        (0.25, 0.37),
        "The margin of the part with the late voice is negative, so the difference exceeds the margin of the "
        "genuine part.",
        tolerance=0.04,
    ),
    "ex-people-still": Answer(
        (0.47, 0.14),
        "Take the highest value of with_added(...) for each picture; the still one must leave the curve of "
        "with_added(0) as it is.",
        tolerance=0.08,
    ),
}
