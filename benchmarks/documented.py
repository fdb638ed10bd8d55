"""How much faster `extract_frames` and `extract_audio` are than the snippet that circulates for them.

    python benchmarks/documented.py

Both give what a detector is fed from one file: 16 normalised frames of 224 x 224 pixels, and one second of
16 kHz audio with its mel spectrogram. The snippet decodes the whole file with OpenCV, turns every frame
into a float tensor, resizes and normalises it, and keeps 16 of them; it decodes the whole audio into a WAV
file, reads that, and cuts a second out. (It starts the program ``ffmpeg`` for the WAV file. Here PyAV
writes it, in this process, which is faster.) The functions read one second in the middle of the file, as
they do by default.

The last line is for 16 frames and the audio of the whole file. All of the video must be decoded for that,
which takes a fifth of the snippet's time and more, so the ratio cannot be large.
"""

from __future__ import annotations

import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import torch
import tyro
from torchaudio.transforms import MelSpectrogram
from torchvision import transforms

from avff_lib.media.clip import Clip
from avff_lib.media.encode import write_clip
from avff_lib.preprocess import extract_audio, extract_frames

RATE = 16_000
FRAMES = 16
TO_FRAME = transforms.Compose(
    [transforms.ToTensor(), transforms.Resize((224, 224)), transforms.Normalize([0.5] * 3, [0.5] * 3)]
)


def snippet_frames(path: str) -> torch.Tensor:
    capture, frames = cv2.VideoCapture(path), []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(TO_FRAME(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    return torch.stack([frames[i] for i in np.linspace(0, len(frames) - 1, FRAMES).astype(int)])


def snippet_audio(path: str, folder: str) -> tuple[torch.Tensor, torch.Tensor]:
    temporary = str(Path(folder, "temp_audio.wav"))
    resampler = av.AudioResampler("s16", "mono", RATE)
    with av.open(path) as file, wave.open(temporary, "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        for frame in [*file.decode(audio=0), None]:
            for part in resampler.resample(frame):
                wav.writeframes(part.to_ndarray().tobytes())
    with wave.open(temporary, "rb") as wav:
        samples = np.frombuffer(wav.readframes(wav.getnframes()), np.int16)
    first = (len(samples) - RATE) // 2
    waveform = torch.from_numpy(samples[first : first + RATE].astype(np.float32) / 2**15)
    return waveform, MelSpectrogram(RATE, n_fft=1024, hop_length=512, n_mels=64)(waveform)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def moving(seconds: float, height: int, width: int) -> Clip:
    """A picture that pans over blurred noise, with a rising tone."""
    rng = np.random.default_rng(0)
    count = round(25 * seconds)
    noise = rng.integers(0, 256, (height // 8, (width + 4 * count) // 8 + 1, 3), dtype=np.uint8)
    wide = cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    frames = np.stack([wide[:height, 4 * i : 4 * i + width] for i in range(count)])
    clock = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * (200 + 20 * clock) * clock)
    return Clip(frames, np.arange(count) / 25, tone.astype(np.float32), RATE, 0.0, seconds)


def main(length: float = 10.0, height: int = 720, width: int = 1280, repeats: int = 5) -> None:
    """Print milliseconds of each side and their ratio.

    Args:
        length: of the file that is made for this, in seconds.
        height, width: of its picture, in pixels.
        repeats: of the measurement; the sides take turns.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "film.mp4"))
        write_clip(moving(length, height, width), path)
        sides = {
            "snippet": lambda: (snippet_frames(path), snippet_audio(path, folder)),
            "one second": lambda: (extract_frames(path), extract_audio(path)),
            "whole file": lambda: (
                extract_frames(path, start=0.0, duration=length),
                extract_audio(path, start=0.0, duration=length),
            ),
        }
        rounds = [{name: seconds(work) for name, work in sides.items()} for _ in range(repeats)]
    print(f"{length:g} s of {width}x{height}, median of {repeats}")
    for name in sides:
        milliseconds = 1000 * np.median([times[name] for times in rounds])
        ratios = np.array([times["snippet"] / times[name] for times in rounds])
        spread = f"{ratios.min():.1f} to {ratios.max():.1f}"
        print(f"{name}: {milliseconds:.0f} ms, ratio {np.median(ratios):.1f} ({spread})")


if __name__ == "__main__":
    tyro.cli(main)
