"""Out-of-distribution detection: is a file like the clips that a detector was calibrated on?

A detector scores every input, even one unlike anything in its training data. Its features reveal such a file:
they lie far from those of the validation clips. Each kind of features is tested separately, since only one of
the streams may be unusual. A high score is a warning, but a low one is no proof: a file can differ in ways
that no feature represents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.utils.atomic import atomic_write

COVERAGE = 0.99  # share of held-out validation clips with out-of-distribution scores of at most 1
MAX_BYTES = 2**29  # of a file; features of length 8,000 need this much
CV_FOLDS = 5  # of the cross-validation over identities, so the smallest number of identities
# The features that are tested, and the stream that each describes: those of the encoders, those of the detail
# path, if the detector has one, and statistics of the pictures themselves. A small encoder trained on
# drawings may represent a photograph like a drawing; grain and colours tell them apart.
STREAM_OF = {
    "audio_features": "audio",
    "audio_detail": "audio",
    "visual_features": "visual",
    "visual_detail": "visual",
    "picture_statistics": "visual",
}
JOINT_LIMIT = "joint.limit"  # name in the file
SPECTRUM_EDGES = (0.02, 0.05, 0.09, 0.14, 0.20, 0.27, 0.35, 0.43, 0.50)  # cycles per pixel
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
MAX_SPECTRA = 4  # frames of a window whose statistics are computed


def picture_statistics(frames: Tensor) -> Tensor:
    """Colours and grain of frames, as means over time.

    Args:
        frames: ``(B, T, 3, H, W)`` float32, prepared for a model.

    Returns:
        ``(B, 6 + 2 + 8)``: mean and standard deviation of each channel, standard deviation of red and blue
        minus green, and the logarithm of the power of the luma in the bands of `SPECTRUM_EDGES`.
    """
    frames = frames[:, :: -(-frames.shape[1] // MAX_SPECTRA)]  # (B, T', 3, H, W)
    colours = torch.cat([frames.mean(dim=(-2, -1)), frames.std(dim=(-2, -1))], dim=2)  # (B, T', 6)
    chroma = (frames[:, :, [0, 2]] - frames[:, :, [1]]).std(dim=(-2, -1))  # (B, T', 2)
    luma = torch.einsum("btchw,c->bthw", frames, frames.new_tensor(LUMA))
    height, width = luma.shape[-2:]
    # Without a window, the jump between opposite edges of a crop would count as detail.
    taper = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(luma)
    spectrum = torch.fft.rfft2((luma - luma.mean(dim=(-2, -1), keepdim=True)) * taper).abs().square()
    rows, columns = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    frequency = torch.hypot(rows[:, None], columns[None]).to(luma)
    bands = torch.stack([(frequency >= low) & (frequency < high) for low, high in pairwise(SPECTRUM_EDGES)])
    weights = bands.to(luma) / bands.sum(dim=(-2, -1), keepdim=True)  # (8, H, W / 2 + 1)
    power = torch.einsum("bthw,khw->btk", spectrum, weights) / (height * width)
    power = (power + 1e-9).log()  # (B, T', 8)
    return torch.cat([colours, chroma, power], dim=2).mean(dim=1)


@dataclass(frozen=True, eq=False)
class MahalanobisDetector:
    """Mahalanobis distance from the features of one stream, with a shrunk covariance.

    Sources: Lee et al. 2018, section 2.1 (the distance, with one class here); Ledoit and Wolf 2004
    (shrinkage).

    Attributes:
        mean: ``(D,)`` of the features.
        precision: ``(D, D)``, the inverse of their covariance.
        limit: the distance within which a share of `COVERAGE` of the clips lies, each measured by a fit to
            other identities.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def fit(cls, features: np.ndarray, identities: Sequence[str]) -> tuple[MahalanobisDetector, np.ndarray]:
        """Fit to the features ``(N, D)`` of N clips, of `CV_FOLDS` identities or more.

        Returns:
            The detector, and the distance ``(N,)`` of each clip by a fit to other identities.
        """
        from sklearn.covariance import LedoitWolf  # takes seconds to import, and prediction does not need it
        from sklearn.model_selection import GroupKFold

        squared = np.empty(len(features))
        for train, test in GroupKFold(CV_FOLDS).split(features, groups=identities):
            squared[test] = LedoitWolf().fit(features[train]).mahalanobis(features[test])
        distances = np.sqrt(squared / features.shape[1])
        fitted = LedoitWolf().fit(features)
        limit = float(np.quantile(distances, COVERAGE, method="higher"))
        return cls(fitted.location_, fitted.precision_, limit), distances

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Distances ``(N,)`` of features ``(N, D)`` from the mean, about 1 for clips like the fitted ones.

        The square root of ``LedoitWolf.mahalanobis`` / D, from a stored mean and precision.
        """
        centered = features - self.mean
        return np.sqrt(np.einsum("nd,de,ne->n", centered, self.precision, centered) / len(self.mean))


@dataclass(frozen=True, eq=False)
class OODDetector:
    """A `MahalanobisDetector` for each kind of features, and a limit for all of them together.

    A file from elsewhere may be somewhat unusual in every feature without exceeding any single limit.

    Attributes:
        detectors: by keys of `STREAM_OF`.
        joint_limit: limit of the mean of distance / limit over the detectors.
    """

    detectors: dict[str, MahalanobisDetector]
    joint_limit: float

    @classmethod
    def fit(cls, features: dict[str, np.ndarray], identities: Sequence[str]) -> OODDetector | None:
        """Fit to N clips; None with fewer than `CV_FOLDS` identities.

        A share of `COVERAGE` of the clips lies within the limits of all single features, and the same share
        within the joint limit, each clip measured by a fit to other identities. Clips that fail a single test
        do not loosen the joint limit: files of people that pass each single test are found by it alone.

        Args:
            features: by keys of `STREAM_OF`, ``(N, D)`` each, with a D of their own; means over a clip's
                windows and over time in each of them.
            identities: ``(N,)``.
        """
        if len(set(identities)) < CV_FOLDS:
            return None
        fitted = {name: MahalanobisDetector.fit(values, identities) for name, values in features.items()}
        ratios = np.array([distances / detector.limit for detector, distances in fitted.values()])  # (K, N)
        wider = float(np.quantile(ratios.max(axis=0), COVERAGE, method="higher"))
        detectors = {
            name: replace(detector, limit=detector.limit * wider) for name, (detector, _) in fitted.items()
        }
        joint_limit = float(np.quantile(ratios.mean(axis=0) / wider, COVERAGE, method="higher"))
        return cls(detectors, joint_limit)

    def ood_scores(self, features: dict[str, np.ndarray]) -> dict[str, float]:
        """Distances of a file's features, each ``(D,)``, as multiples of the limits.

        Returns:
            For each stream, ``audio`` and ``visual``, the largest of its features, and ``joint``, the mean
            over all features; if any exceeds 1, the file is out of distribution.

        Raises:
            AVFFError: the features are not those that were fitted, or have another length.
        """
        scores = {"audio": 0.0, "visual": 0.0}
        distances = []
        for name, detector in self.detectors.items():
            given = features.get(name, np.zeros(0))
            if given.shape != detector.mean.shape:
                raise AVFFError(
                    f"the checkpoint's out-of-distribution detector has {len(detector.mean)} {name}, the "
                    f"model gives {len(given)}; take both files from one checkpoint"
                )
            distances.append(float(detector.distances(given[None])[0] / detector.limit))
            scores[STREAM_OF[name]] = max(scores[STREAM_OF[name]], distances[-1])
        return scores | {"joint": float(np.mean(distances)) / self.joint_limit}

    def save(self, path: Path) -> None:
        """Write into a safetensors file, in one atomic step."""
        arrays = {JOINT_LIMIT: torch.tensor([self.joint_limit])}
        for name, detector in self.detectors.items():
            arrays[f"{name}.mean"] = torch.from_numpy(detector.mean).float()
            arrays[f"{name}.precision"] = torch.from_numpy(detector.precision).float()
            arrays[f"{name}.limit"] = torch.tensor([detector.limit])
        with atomic_write(path) as partial:
            save_file(arrays, partial)

    @classmethod
    def load(cls, path: Path) -> OODDetector:
        """Read what `save` wrote.

        Raises:
            AVFFError: the file is damaged, or holds something else.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            arrays = {name: tensor.double().numpy() for name, tensor in load_file(path).items()}
            (joint_limit,) = arrays.pop(JOINT_LIMIT)
            if not 0 < joint_limit < np.inf:
                raise ValueError(f"a joint limit of {joint_limit}")
            names = {key.partition(".")[0] for key in arrays}
            if not names or not names <= STREAM_OF.keys():
                raise ValueError(f"features {', '.join(sorted(names)) or 'none'}")
            detectors = {}
            for name in sorted(names):
                mean, precision = arrays[f"{name}.mean"], arrays[f"{name}.precision"]
                (limit,) = arrays[f"{name}.limit"]
                if mean.ndim != 1 or precision.shape != mean.shape * 2 or not 0 < limit < np.inf:
                    raise ValueError(f"shapes {mean.shape} and {precision.shape}, limit {limit}")
                # With any other matrix a distance can be NaN, which exceeds no limit.
                if not mean.size or not np.isfinite(mean).all() or not _is_positive(precision):
                    raise ValueError(f"{name}.mean and {name}.precision are those of no distribution")
                detectors[name] = MahalanobisDetector(mean, precision, float(limit))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise AVFFError(f"{path} cannot be read ({error}); copy the checkpoint again") from None
        return cls(detectors, float(joint_limit))


def _is_positive(matrix: np.ndarray) -> bool:
    """Whether a square matrix is finite and, up to float32 rounding, positive definite."""
    if not np.isfinite(matrix).all():
        return False
    eigenvalues = np.linalg.eigvalsh(matrix + matrix.T)
    return bool(eigenvalues[0] > -1e-6 * eigenvalues[-1])
