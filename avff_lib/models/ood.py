"""Out-of-distribution detection: is a file like the clips that a detector was calibrated on?

A detector scores every input, also one unlike anything that it was trained on. The features of its own
encoders show that: for such a file they lie far from those of the validation clips. Audio and visual
features are tested apart, since either stream may be unusual alone. A high score is a warning, and a low one
no proof: a file can differ in ways that the encoders do not represent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

COVERAGE = 0.99  # share of held-out validation clips with an out-of-distribution score of at most 1
CV_FOLDS = 5  # of the cross-validation over identities, and so the least number of these
STREAMS = ("audio", "visual")


@dataclass(frozen=True, eq=False)
class MahalanobisDetector:
    """Mahalanobis distance from the features of one stream, with a shrunk covariance.

    Sources: Lee et al. 2018, section 2.1 (the distance, with one class here); Ledoit and Wolf 2004
    (shrinkage).

    Attributes:
        mean: ``(D,)`` of the features.
        precision: ``(D, D)``, the inverse of their covariance.
        limit: the distance within which `COVERAGE` of the clips lie, each measured by a fit to other
            identities.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def fit(cls, features: np.ndarray, identities: Sequence[str]) -> MahalanobisDetector:
        """Fit to the features ``(N, D)`` of N clips, of `CV_FOLDS` identities or more."""
        from sklearn.covariance import LedoitWolf  # seconds to import, and prediction does without
        from sklearn.model_selection import GroupKFold

        squared = np.empty(len(features))
        for train, test in GroupKFold(CV_FOLDS).split(features, groups=identities):
            squared[test] = LedoitWolf().fit(features[train]).mahalanobis(features[test])
        distances = np.sqrt(squared / features.shape[1])
        fitted = LedoitWolf().fit(features)
        limit = float(np.quantile(distances, COVERAGE, method="higher"))
        return cls(fitted.location_, fitted.precision_, limit)

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distances ``(N,)`` of features ``(N, D)`` from the mean, about 1 for clips like the fitted ones.

        The root of ``LedoitWolf.mahalanobis`` over D, from a mean and a precision that were loaded.
        """
        centered = features - self.mean
        return np.sqrt(np.einsum("nd,de,ne->n", centered, self.precision, centered) / len(self.mean))


@dataclass(frozen=True, eq=False)
class OODDetector:
    """A `MahalanobisDetector` for each stream."""

    audio: MahalanobisDetector
    visual: MahalanobisDetector

    @property
    def streams(self) -> dict[str, MahalanobisDetector]:
        """The detectors by stream (`STREAMS`)."""
        return {"audio": self.audio, "visual": self.visual}

    @classmethod
    def fit(cls, audio: np.ndarray, visual: np.ndarray, identities: Sequence[str]) -> OODDetector | None:
        """Fit to the features of N clips, each ``(N, D)``; None with fewer than `CV_FOLDS` identities.

        The features are means over a clip's windows and over the time in these.
        """
        if len(set(identities)) < CV_FOLDS:
            return None
        return cls(MahalanobisDetector.fit(audio, identities), MahalanobisDetector.fit(visual, identities))

    def ood_scores(self, audio: np.ndarray, visual: np.ndarray) -> dict[str, float]:
        """Distances of a file's features, each ``(D,)``, as multiples of the limits.

        Returns:
            By stream (`STREAMS`); above 1 the file is out of distribution.

        Raises:
            AVFFError: the features have another length than those that were fitted.
        """
        scores = {}
        for (name, stream), features in zip(self.streams.items(), (audio, visual), strict=True):
            if features.shape != stream.mean.shape:
                raise AVFFError(
                    f"the checkpoint's out-of-distribution detector has {len(stream.mean)} {name} features, "
                    f"the model gives {len(features)}; take both files from one checkpoint"
                )
            scores[name] = float(stream.distances(features[None])[0] / stream.limit)
        return scores

    def save(self, path: Path) -> None:
        """Write into a safetensors file, in one atomic step."""
        arrays = {}
        for name, stream in self.streams.items():
            arrays[f"{name}.mean"] = torch.from_numpy(stream.mean).float()
            arrays[f"{name}.precision"] = torch.from_numpy(stream.precision).float()
            arrays[f"{name}.limit"] = torch.tensor([stream.limit])
        with atomic_write(path) as partial:
            save_file(arrays, partial)

    @classmethod
    def load(cls, path: Path) -> OODDetector:
        """Read what `save` wrote.

        Raises:
            AVFFError: the file is damaged, or holds something else.
        """
        try:
            arrays = {name: tensor.double().numpy() for name, tensor in load_file(path).items()}
            streams = {}
            for name in STREAMS:
                mean, precision = arrays[f"{name}.mean"], arrays[f"{name}.precision"]
                (limit,) = arrays[f"{name}.limit"]
                if precision.shape != mean.shape * 2 or not limit > 0:
                    raise ValueError(f"shapes {mean.shape} and {precision.shape}, limit {limit}")
                streams[name] = MahalanobisDetector(mean, precision, float(limit))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise AVFFError(f"{path} cannot be read ({error}); copy the checkpoint anew") from None
        return cls(streams["audio"], streams["visual"])
