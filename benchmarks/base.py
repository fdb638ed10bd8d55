"""How near `AVFFMAE` at the paper's size comes to the rate of plain matrix products, and what a step takes.

    python benchmarks/base.py

The model has random weights and runs on the CPU in float32. In turn with it run matrix products and the same
model with textbook attention, which writes out softmax(Q K^T / sqrt d) V. Speed is that of one thread, in
processor time, so that other programs on the machine hardly count. A step of training is measured in a
process of its own for each variant.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import torch
import tyro
from timm.layers import Attention
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from avff_lib.models.avff_mae import AVFFMAE
from avff_lib.models.configs import AVFFMAEConfig
from avff_lib.preprocess.spec import ModelInputs
from avff_lib.training.dry_run import saved_storages

TEXTBOOK, OURS, CHECKPOINTED = "textbook attention", "ours", "ours, checkpointed blocks"
PRODUCTS = {"large product": (2048, 2048, 2048), "product of an MLP": (1568, 768, 3072)}
PARTS = {  # of a forward pass, by what PyTorch's profiler and its FLOP counter call them
    "addmm": "linear layers",
    "mm": "linear layers",
    "bmm": "attention",
    "_scaled_dot_product_flash_attention_for_cpu": "attention",
    "_softmax": "softmax",
    "convolution": "patch embedding",
    "mkldnn_convolution": "patch embedding",
    "gelu": "GELU",
    "native_layer_norm": "LayerNorm",
    "add": "sums",
    "copy_": "copies, mostly of biases",
    "cat": "copies, mostly of biases",
}


def main(batch: int = 1, repeats: int = 5) -> None:
    """Print the memory of a step, the speed of a forward pass, and where its time goes.

    Args:
        batch: windows in a step or pass.
        repeats: of the measurement of speed; the sides take turns.
    """
    show_memory(batch)
    torch.set_num_threads(1)
    model, inputs = make_model(OURS).eval(), make_inputs(batch)
    with torch.inference_mode():
        flops = count_flops(model, inputs)
        share = show_speed(model, inputs, flops.total(), repeats)
        show_profile(model, inputs, flops, share)


def make_model(variant: str) -> AVFFMAE:
    torch.manual_seed(0)
    model = AVFFMAE(AVFFMAEConfig())
    set_variant(model, variant)
    return model


def set_variant(model: AVFFMAE, variant: str) -> None:
    model.set_grad_checkpointing(variant == CHECKPOINTED)
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused_attn = variant != TEXTBOOK


def make_inputs(batch: int) -> ModelInputs:
    """Noise; what is in a window changes neither time nor memory."""
    config = AVFFMAEConfig()
    columns, bands = np.multiply(config.audio_grid, config.audio_patch)
    frames = torch.randn(batch, config.frame_count, 3, config.image_size, config.image_size)
    return ModelInputs(frames, torch.randn(batch, bands, columns))


def show_memory(batch: int) -> None:
    print(f"step of training, batch of {batch}: memory kept for the backward pass; peak, without the model")
    measured = {}
    for variant in (TEXTBOOK, OURS, CHECKPOINTED):
        # A process inherits the peak of the one that starts it, which must not have built a model yet.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            measured[variant] = np.array(pool.submit(step_memory, variant, batch).result())
        kept, step = measured[variant] / 1e9
        of_kept, of_step = measured[variant] / measured[TEXTBOOK]
        print(f"  {variant:26} {kept:5.2f} GB, ratio {of_kept:.2f}    {step:5.2f} GB, ratio {of_step:.2f}")


def step_memory(variant: str, batch: int) -> tuple[int, int]:
    """Bytes that autograd keeps, and those that the process grows by in both passes, gradients included."""
    model, inputs = make_model(variant).train(), make_inputs(batch)
    built = peak_memory()
    with saved_storages(model) as kept:
        logged = model.pretraining_loss(inputs, torch.Generator().manual_seed(0))
    (logged["loss"] + logged["critic_loss"]).backward()
    return sum(kept.values()), peak_memory() - built


def peak_memory() -> int:
    """Bytes that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def count_flops(model: AVFFMAE, inputs: ModelInputs) -> Counter[str]:
    """Of a forward pass, by part."""
    # PyTorch counts nothing in the CPU's fused attention; the products that it consists of are counted.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(inputs)
    flops: Counter[str] = Counter()
    for operation, count in counter.get_flop_counts()["Global"].items():
        flops[PARTS[operation.__name__]] += count
    return flops


def show_speed(model: AVFFMAE, inputs: ModelInputs, flops: int, repeats: int) -> float:
    """Print rates, and return the share of the large product's rate that the model reaches."""
    rates: dict[str, list[float]] = {name: [] for name in (*PRODUCTS, TEXTBOOK, OURS)}
    for _ in range(repeats):
        for name, (rows, inner, columns) in PRODUCTS.items():
            product = partial(torch.mm, torch.randn(rows, inner), torch.randn(inner, columns))
            rates[name].append(2 * rows * inner * columns / seconds(product, 10))
        for variant in (TEXTBOOK, OURS):
            set_variant(model, variant)
            rates[variant].append(flops / seconds(partial(model, inputs)))
    print(f"\nforward pass, {flops / 1e9:.0f} GFLOP, median of {repeats}")
    for name, values in rates.items():
        ratios = np.array(rates[OURS]) / np.array(values)
        print(
            f"  {name:18} {np.median(values) / 1e9:6.1f} GFLOP/s, "
            f"ours / this {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})"
        )
    return float(np.median(np.array(rates[OURS]) / np.array(rates["large product"])))


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Mean processor time of a call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def show_profile(model: AVFFMAE, inputs: ModelInputs, flops: Counter[str], share: float) -> None:
    """By part: its share of the time, and what of it its FLOPs would not take at the large product's rate.

    The latter add up to what is missing to 100 % of that rate.
    """
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(2):
            model(inputs)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        times[PARTS.get(event.key.removeprefix("aten::"), "rest")] += event.self_cpu_time_total
    print(f"\n  {'part':26}   time  beyond its FLOPs")
    for name, spent in times.most_common():
        of_time = spent / times.total()
        print(f"  {name:26} {of_time:6.1%}  {of_time - share * flops[name] / flops.total():6.1%}")


if __name__ == "__main__":
    tyro.cli(main)
