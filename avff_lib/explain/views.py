"""What an explanation covers: a window's frames and spectrogram, and the cells they are divided into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from avff_lib.errors import AVFFError
from avff_lib.preprocess.spec import InputSpec, ModelInputs

N_FFT, HOP = 512, 128  # samples; of the spectrogram in which a waveform is explained
CELLS = {"frames": (8, 8), "audio": (16, 16)}  # rows and columns of a frame; bands and time steps
BATCH_SIZE = 8


class LogitModel(Protocol):
    """A model that can be explained: a `Detector` in evaluation mode, or anything with its call signature."""

    spec: InputSpec
    training: bool

    def __call__(self, inputs: ModelInputs) -> Tensor: ...


class Views:
    """A batch of inputs in the form that is explained: frames, and a waveform as its complex spectrogram.

    The inverse transform is linear, so a share of the spectrogram is a share of the waveform.
    """

    def __init__(self, spec: InputSpec, inputs: ModelInputs) -> None:
        # Copies, since tensors made in inference mode cannot be part of a graph.
        self.frames, self.audio = inputs.frames.detach().clone(), inputs.audio.detach().clone()
        self.samples = inputs.audio.shape[-1] if spec.audio == "waveform" else None
        self.window = torch.hann_window(N_FFT, device=inputs.audio.device)
        if self.samples:
            self.audio = torch.stft(self.audio, N_FFT, HOP, window=self.window, return_complex=True)

    def towards(self, other: Views, frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Points between this batch and another, by shares that broadcast: 0 is this batch, 1 the other."""
        return (
            self.frames + frames * (other.frames - self.frames),
            self.audio + audio * (other.audio - self.audio),
        )

    def inputs(self, frames: Tensor, audio: Tensor) -> ModelInputs:
        """Points as inputs of a model."""
        if self.samples:
            audio = torch.istft(audio, N_FFT, HOP, window=self.window, length=self.samples)
        return ModelInputs(frames, audio)


def memberships(sizes: Sequence[int], parts: tuple[int, int]) -> list[Tensor]:
    """For both axes ``(parts, size)``: 1 where an index belongs to a part."""
    return [torch.eye(p)[:, torch.arange(s) * p // s] for s, p in zip(sizes, parts, strict=True)]


def spread(cells: Tensor, parts: tuple[int, int], sizes: Sequence[int]) -> Tensor:
    """Values of cells ``(..., rows, columns)`` -> values of all points ``(..., H, W)``."""
    rows, columns = (m.to(cells) for m in memberships(sizes, parts))
    return rows.T @ cells @ columns


def check(model: LogitModel, inputs: ModelInputs, baselines: ModelInputs) -> None:
    """Raise an `AVFFError` if the model cannot be explained on these inputs."""
    if model.training:
        raise AVFFError(
            "the model is in training mode, where dropout changes its logits; call model.eval() first"
        )
    spec = model.spec
    expected = (1, spec.frame_count, 3, spec.image_size, spec.image_size)
    if tuple(inputs.frames.shape) != expected or len(inputs.audio) != 1:
        raise AVFFError(
            f"frames are {tuple(inputs.frames.shape)} with {len(inputs.audio)} spectrograms or waveforms; "
            f"expected one window, {expected}, as prepare(clip, model.spec) returns it"
        )
    shapes = [tuple(x.shape[1:]) for x in (inputs.frames, baselines.frames, inputs.audio, baselines.audio)]
    if shapes[0] != shapes[1] or shapes[2] != shapes[3]:
        raise AVFFError(
            f"a baseline has the shapes {shapes[1]} and {shapes[3]}, the window {shapes[0]} and {shapes[2]}; "
            "prepare both by the same spec"
        )
    if not (inputs.frames.isfinite().all() and inputs.audio.isfinite().all()):
        raise AVFFError("the window holds NaN or infinity; decode and prepare the clip again")
