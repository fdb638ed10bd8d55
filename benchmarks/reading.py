"""Speed of other ways of reading one sample from a file, relative to the snippet that circulates.

    python benchmarks/reading.py

All return a detector's inputs from one file: 16 normalised frames of 224 x 224 pixels, and one second of
16 kHz audio with its mel spectrogram. The snippet decodes the whole file with OpenCV, turns every frame
into a float tensor, resizes and normalises it, and keeps 16 of them; it decodes the whole audio into a WAV
file, reads that, and cuts out a second. (It starts the program ``ffmpeg`` for the WAV file. Here PyAV
writes it, in this process, which is faster.) The other ways read one second in the middle of the file:

- OpenCV and PyAV: OpenCV seeks to the first frame of this second, and prepares only the 16 frames. It does
  not read audio, so PyAV decodes that from the start of the second on.
- torchcodec: its video and audio decoders return the resized frames and the second of audio. By default its
  index of the frames is exact, for which it reads the whole file without decoding it; the other mode trusts
  the header.
- `extract_frames` and `extract_audio`, with their defaults.

The last row is for these two functions, with 16 frames and the audio of the whole file. This requires
decoding the whole video, which takes at least a fifth of the snippet's time, so the ratio cannot be large.
"""

from __future__ import annotations

import tempfile
import wave
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
import torch
import tyro
from films import FPS, write_film
from tables import print_tables
from timing import Table, spread, take_turns
from torchaudio.transforms import MelSpectrogram
from torchvision import transforms

from avff_lib.preprocess import extract_audio, extract_frames

RATE = 16_000
FRAMES = 16
NORMALIZE = transforms.Normalize([0.5] * 3, [0.5] * 3)
TO_FRAME = transforms.Compose([transforms.ToTensor(), transforms.Resize((224, 224)), NORMALIZE])
TO_MEL = MelSpectrogram(RATE, n_fft=1024, hop_length=512, n_mels=64)
QUICK = {"length": 2.0, "height": 120, "width": 160, "repeats": 1}

Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # frames, waveform, mel spectrogram


def measure(
    length: float = 10.0, height: int = 720, width: int = 1280, repeats: int = 11
) -> dict[str, Table]:
    """Time the ways of reading.

    Args:
        length: of the film, in seconds; at least two.
        height, width: of its picture, in pixels.
        repeats: timed turns of the ways.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = str(write_film(Path(folder, "film.mp4"), length, height, width))
        ways = {
            "the snippet": lambda: read_with_snippet(path, folder),
            "OpenCV and PyAV": lambda: read_with_opencv(path, length),
            "extract_frames, extract_audio": lambda: (extract_frames(path), *extract_audio(path)),
            "the same, all of the file": lambda: (
                extract_frames(path, start=0.0, duration=length),
                *extract_audio(path, start=0.0, duration=length),
            ),
        }
        decoders = load_torchcodec()
        if decoders is not None:
            for name, mode in {"torchcodec": "exact", "torchcodec, approximate": "approximate"}.items():
                ways[name] = partial(read_with_torchcodec, decoders, path, length, mode)
        seconds = take_turns(ways, repeats)
    rows: Table = {
        name: {"ms": spread(1000 * values), "times as fast": spread(seconds["the snippet"] / values)}
        for name, values in seconds.items()
    }
    if decoders is None:
        rows["torchcodec"] = {"ms": "not installed here"}
    return {"reading": rows}


def load_torchcodec() -> ModuleType | None:
    """Its decoders; None if it is not installed, or does not find the libraries of FFmpeg."""
    try:
        return import_module("torchcodec.decoders")
    except (ImportError, RuntimeError, OSError):
        return None


def read_with_snippet(path: str, folder: str) -> Sample:
    capture, frames = cv2.VideoCapture(path), []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(TO_FRAME(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)))
    capture.release()
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, FRAMES).astype(int)]
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
    return torch.stack(chosen), waveform, TO_MEL(waveform)


def read_with_opencv(path: str, length: float) -> Sample:
    start = (length - 1) / 2
    capture = cv2.VideoCapture(path)
    first = round(FPS * start)
    capture.set(cv2.CAP_PROP_POS_FRAMES, first)
    wanted, frames = set(frame_numbers(start)), []
    for number in range(first, max(wanted) + 1):
        capture.grab()
        if number in wanted:
            frames.append(TO_FRAME(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)))
    capture.release()
    resampler, parts = av.AudioResampler("flt", "mono", RATE), []
    with av.open(path) as file:
        audio = file.streams.audio[0]
        file.seek(int(start / audio.time_base), stream=audio)
        begin = None  # time of the first sample, in seconds
        for frame in file.decode(audio):
            begin = frame.time if begin is None else begin
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            if frame.time > start + 1.1:
                break
    skipped = round((start - begin) * RATE)
    waveform = torch.from_numpy(np.concatenate(parts)[skipped : skipped + RATE])
    return torch.stack(frames), waveform, TO_MEL(waveform)


def read_with_torchcodec(decoders: ModuleType, path: str, length: float, mode: str) -> Sample:
    start = (length - 1) / 2
    resize = import_module("torchcodec.transforms").Resize((224, 224))
    video = decoders.VideoDecoder(path, seek_mode=mode, num_ffmpeg_threads=1, transforms=[resize])
    frames = video.get_frames_at(frame_numbers(start)).data / 255
    audio = decoders.AudioDecoder(path, sample_rate=RATE, num_channels=1)
    waveform = audio.get_samples_played_in_range(start, start + 1).data[0]
    return NORMALIZE(frames), waveform, TO_MEL(waveform)


def frame_numbers(start: float) -> list[int]:
    """Numbers of the frames in the second from ``start`` on."""
    return [round(FPS * (start + (index + 0.5) / FRAMES)) for index in range(FRAMES)]


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
