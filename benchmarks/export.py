"""Speed gained by exporting, compiling and quantising a shipped detector on one thread, and its side effects.

    make bench BENCHMARKS=export

Every variant gets the same windows of a corpus made for this purpose, 1 and 16 at a time. A prediction does
more than run the model, so the last column is the remaining gain for ``avff predict`` on small films, where
the model's share is largest: 1 / (1 - share + share / gain). The same is measured for the face detector,
which OpenCV runs, on one picture in the size of the search.
"""

from __future__ import annotations

import copy
import os
import shutil
import time
import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from films import write_film
from predict import profile_stages
from sklearn.metrics import roc_auc_score
from tables import print_tables
from timing import Table, spread, take_turns
from torch import Tensor, nn
from torch.ao.quantization import quantize_dynamic

from avff_lib import Detector
from avff_lib.data.examples import load_examples
from avff_lib.data.manifest import read_manifest
from avff_lib.faces.detect import WEIGHTS_PATH
from avff_lib.inference.windows import BATCH_SIZE, sliding_windows
from avff_lib.media.decode import read_clip
from avff_lib.preprocess.prepare import prepare_batch
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.synth import write_corpus

EAGER, OPENCV = "PyTorch", "OpenCV"
PREDICT = "predict, times as fast"
DETECTOR_SIZE = (320, 192)  # width and height: of a picture of 16 : 9, shrunk and padded
INPUTS = ("frames", "audio")
HOP = 1.0  # seconds from one window to the next
QUICK = {"clips": 4, "repeats": 1, "variants": (EAGER, "PyTorch, int8")}

Variant = Callable[[Tensor, Tensor], Tensor]  # frames and audio -> logits


class Whole(nn.Module):
    """A detector that takes tensors; exporters do not support `ModelInputs`."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, audio: Tensor) -> Tensor:
        return self.model(ModelInputs(frames, audio))


def measure(
    clips: int = 60,
    repeats: int = 5,
    checkpoints: tuple[str, ...] = ("avff-tiny", "avffmae-tiny"),
    variants: tuple[str, ...] = (),
) -> dict[str, Table]:
    """Time the variants, compare their logits with those of PyTorch, and compute the AUC of the clips.

    Args:
        clips: number of clips in the corpus, a third of them real.
        repeats: timed turns of the variants.
        checkpoints: shipped detectors.
        variants: names of some, including PyTorch; by default all.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")  # of exporters, which deprecate one another
    tables = {}
    with TemporaryDirectory() as folder:
        # What is compiled is compiled here and now.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder, "compiled"))
        film = write_film(Path(folder, "film.mp4"), 10.0)
        data = Path(folder, "data")
        rows = read_manifest(write_corpus(data, clips=clips, identities=12, seed=5, level="hard"))
        for name in checkpoints:
            model = Detector.from_pretrained(name)
            shares = profile_stages(partial(model.predict, film))
            examples, _ = load_examples(rows, model.spec)
            windows = [sliding_windows(example.clip, model.spec.duration, HOP) for example in examples]
            inputs = prepare_batch([window for clip in windows for window in clip], model.spec)
            tables[name] = compare(
                make_variants(model, inputs, Path(folder), variants),
                inputs,
                np.repeat(np.arange(len(examples)), [len(clip) for clip in windows]),
                np.array([example.row.label for example in examples]),
                repeats,
                shares["model"],
            )
        tables["face detector"] = compare_detectors(film, repeats, shares["face detection"])
    return tables


def compare(
    variants: dict[str, Variant | str],
    inputs: ModelInputs,
    clips: np.ndarray,
    labels: np.ndarray,
    repeats: int,
    share: float,
) -> Table:
    """Measure variants.

    Args:
        variants: those that run, and a reason for each of the others.
        inputs: all windows.
        clips: number of the clip of each window.
        labels: of the clips.
        repeats: timed turns.
        share: the model's share of the time of a prediction.
    """
    working = {name: variant for name, variant in variants.items() if callable(variant)}
    seconds = {}
    with torch.inference_mode():
        for size in (1, BATCH_SIZE):
            batch = inputs.frames[:size].contiguous(), inputs.audio[:size].contiguous()
            works = {name: partial(variant, *batch) for name, variant in working.items()}
            seconds[size] = take_turns(works, repeats, clock=time.process_time)
        logits = {name: in_batches(variant, inputs) for name, variant in working.items()}
    table: Table = {}
    for name, variant in variants.items():
        if not callable(variant):
            table[name] = {"ms, 1 window": str(variant)}
            continue
        gains = {size: times[EAGER] / times[name] for size, times in seconds.items()}
        gain = float(np.median(gains[BATCH_SIZE]))
        scores = np.bincount(clips, 1 / (1 + np.exp(-logits[name]))) / np.bincount(clips)
        table[name] = {
            "ms, 1 window": spread(1000 * seconds[1][name]),
            "times as fast, 1 window": spread(gains[1]),
            f"times as fast, {BATCH_SIZE} windows": spread(gains[BATCH_SIZE]),
            "largest change of a logit": float(f"{np.abs(logits[name] - logits[EAGER]).max():.2g}"),
            "AUC": f"{roc_auc_score(labels, scores):.3f}",
            PREDICT: round(1 / (1 - share + share / gain), 3),
        }
    return table


def compare_detectors(film: Path, repeats: int, share: float) -> Table:
    """Measure the face detector in OpenCV, as the library runs it, and in other runtimes.

    Args:
        film: its first frame is searched.
        repeats: timed turns of the variants.
        share: the detector's share of the time of a prediction.
    """
    frame = read_clip(film, 0.0, 0.1).frames[0]
    picture = cv2.dnn.blobFromImage(cv2.resize(frame, DETECTOR_SIZE))  # (1, 3, H, W)
    network = cv2.dnn.readNetFromONNX(str(WEIGHTS_PATH))

    def in_opencv() -> np.ndarray:
        network.setInput(picture)
        return network.forward(["537", "538", "539", "540"])[0]

    makers: dict[str, Callable[[], Callable[[], np.ndarray]]] = {
        OPENCV: lambda: in_opencv,
        "ONNX Runtime": lambda: detector_in_onnx_runtime(picture),
        "OpenVINO": lambda: detector_in_openvino(picture, "f32"),
        "OpenVINO, bfloat16": lambda: detector_in_openvino(picture, "bf16"),
    }
    working, table = {}, {}
    for name, make in makers.items():
        try:
            working[name] = make()
        except ImportError:
            table[name] = {"ms": "not installed here"}
    seconds = take_turns(working, 5 * repeats, clock=time.process_time)
    for name, values in seconds.items():
        gains = seconds[OPENCV] / values
        gain = float(np.median(gains))
        change = np.abs(working[name]() - in_opencv()).max()
        table[name] = {
            "ms": spread(1000 * values),
            "times as fast": spread(gains),
            "largest change of a confidence": float(f"{change:.2g}"),
            PREDICT: round(1 / (1 - share + share / gain), 3),
        }
    return table


def detector_in_onnx_runtime(picture: np.ndarray) -> Callable[[], np.ndarray]:
    """The heat map of confidences."""
    import onnx

    model = onnx.load(WEIGHTS_PATH)
    # The file declares the weights as inputs, and a fixed picture size that is not needed.
    weights = {tensor.name for tensor in model.graph.initializer}
    (frames,) = [each for each in model.graph.input if each.name not in weights]
    for axis, size in zip(frames.type.tensor_type.shape.dim, picture.shape, strict=True):
        axis.dim_value = size
    outputs = [onnx.helper.make_tensor_value_info(each.name, 1, None) for each in model.graph.output]
    graph = onnx.helper.make_graph(
        model.graph.node, "detector", [frames], outputs, initializer=model.graph.initializer
    )
    model = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = onnx_session(model.SerializeToString())
    return lambda: session.run(["537"], {frames.name: picture})[0]


def detector_in_openvino(picture: np.ndarray, precision: str) -> Callable[[], np.ndarray]:
    from openvino import Core

    model = Core().read_model(WEIGHTS_PATH)
    model.reshape({model.inputs[0]: list(picture.shape)})
    network = Core().compile_model(model, "CPU", openvino_settings(precision))
    return lambda: network([picture])[network.output("537")]


def in_batches(variant: Variant, inputs: ModelInputs) -> np.ndarray:
    """Logits of all windows; all batches are full, since some variants are compiled for that size."""
    count = len(inputs.frames)
    rows = np.arange(-(-count // BATCH_SIZE) * BATCH_SIZE) % count
    batches = rows.reshape(-1, BATCH_SIZE)
    return torch.cat([variant(inputs.frames[batch], inputs.audio[batch]) for batch in batches]).numpy()[
        :count
    ]


def make_variants(
    model: Detector, inputs: ModelInputs, folder: Path, names: tuple[str, ...]
) -> dict[str, Variant | str]:
    """The variants of ``names``, or all; a reason for each that cannot be made on this machine.

    Args:
        model: in evaluation mode.
        inputs: windows for tracing.
        folder: for files.
        names: of the requested variants.
    """
    whole = Whole(model).eval()
    example = inputs.frames[:2], inputs.audio[:2]
    batch = torch.export.Dim("batch", min=1, max=64)
    dynamic = {name: {0: batch} for name in INPUTS}

    @cache
    def program() -> torch.export.ExportedProgram:
        with torch.no_grad():
            return torch.export.export(whole, example, dynamic_shapes=dynamic)

    @cache
    def onnx() -> str:
        path = str(folder / f"{type(model).__name__}.onnx")
        with torch.no_grad():
            torch.onnx.export(
                whole,
                example,
                path,
                dynamo=True,
                dynamic_shapes=dynamic,
                input_names=INPUTS,
                output_names=["logits"],
                verbose=False,
            )
        return path

    makers: dict[str, Callable[[], Variant]] = {
        EAGER: lambda: whole,
        "PyTorch, bfloat16": lambda: autocast(whole),
        "PyTorch, int8": lambda: quantize_dynamic(copy.deepcopy(whole), {nn.Linear}, torch.qint8),
        "torch.export": lambda: program().module(),
        "AOTInductor": lambda: compiled(program(), folder),
        "ONNX Runtime": lambda: onnx_runtime(onnx()),
        "ONNX Runtime, int8": lambda: onnx_runtime(quantized(onnx())),
        "OpenVINO": lambda: openvino(onnx(), "f32"),
        "OpenVINO, bfloat16": lambda: openvino(onnx(), "bf16"),
    }
    made: dict[str, Variant | str] = {}
    for name in names or makers:
        try:
            made[name] = makers[name]()
        except ImportError:
            made[name] = "not installed here"
        except FileNotFoundError:
            made[name] = "no C++ compiler here"
    return made


def autocast(whole: Whole) -> Variant:
    def run(frames: Tensor, audio: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return whole(frames, audio).float()

    return run


def compiled(program: torch.export.ExportedProgram, folder: Path) -> Variant:
    """Raises `FileNotFoundError` without a compiler."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise FileNotFoundError
    path = str(folder / "model.pt2")
    torch._inductor.aoti_compile_and_package(program, package_path=path)
    return torch._inductor.aoti_load_package(path)


def onnx_session(model: str | bytes) -> Any:
    """A session of a file or its content, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options)


def onnx_runtime(path: str) -> Variant:
    session = onnx_session(path)

    def run(*tensors: Tensor) -> Tensor:
        arrays = dict(zip(INPUTS, (tensor.numpy() for tensor in tensors), strict=True))
        return torch.from_numpy(session.run(None, arrays)[0])

    return run


def quantized(path: str) -> str:
    """Matrix products in int8, with scales computed for each input; convolutions are unchanged."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    out = path.replace(".onnx", "-int8.onnx")
    quantize_dynamic(path, out, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    return out


def openvino_settings(precision: str) -> dict[str, Any]:
    return {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision}


def openvino(path: str, precision: str) -> Variant:
    from openvino import Core, convert_model

    @cache
    def network(*shapes: torch.Size) -> Any:
        # For one batch size: with a free one, it cannot infer the rank of the spectrogram in AVFF.
        model = convert_model(path, input=list(zip(INPUTS, map(list, shapes), strict=True)))
        return Core().compile_model(model, "CPU", openvino_settings(precision))

    def run(*tensors: Tensor) -> Tensor:
        outputs = network(*(tensor.shape for tensor in tensors))([tensor.numpy() for tensor in tensors])
        return torch.from_numpy(outputs[0].copy())

    return run


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
