"""How close `AVFFMAE` at the paper's size comes to the rate of plain matrix products, and the cost of a step.

    python benchmarks/base.py

The model has random weights and runs on the CPU in float32. It takes turns with matrix products and with the
same model with textbook attention, which writes out softmax(Q K^T / sqrt d) V. Speed is that of one thread,
in processor time, so that other programs on the machine have little effect. The memory of a training step is
measured in a separate process for each variant.
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
from typing import Literal

import numpy as np
import torch
import tyro
from tables import print_tables
from timing import Table, spread, take_turns
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
PARTS = {  # of a forward pass, by their names in PyTorch's profiler and FLOP counter
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


CONFIGS = {"paper": AVFFMAEConfig(), "tiny": AVFFMAEConfig(**AVFFMAE.tiny_config)}
QUICK = {"size": "tiny", "repeats": 1, "step_repeats": 1}


def measure(
    size: Literal["paper", "tiny"] = "paper", batch: int = 1, repeats: int = 3, step_repeats: int = 2
) -> dict[str, Table]:
    """Measure a training step and a forward pass.

    Args:
        size: of the model.
        batch: windows in a step or pass.
        repeats: measurements of the forward pass; the sides take turns.
        step_repeats: measurements of the step.
    """
    memory = step_memories(size, batch)
    torch.set_num_threads(1)
    model, inputs = make_model(size, OURS), make_inputs(size, batch)
    steps = time_steps(model, inputs, step_repeats)
    model.eval()
    with torch.inference_mode():
        flops = count_flops(model, inputs)
        forward, share = time_forward(model, inputs, flops.total(), repeats)
        parts = profile_parts(model, inputs, flops, share)
    return {"memory of a step": memory, "step": steps, "forward pass": forward, "parts": parts}


def make_model(size: str, variant: str) -> AVFFMAE:
    torch.manual_seed(0)
    model = AVFFMAE(CONFIGS[size])
    set_variant(model, variant)
    return model


def set_variant(model: AVFFMAE, variant: str) -> None:
    model.set_grad_checkpointing(variant == CHECKPOINTED)
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused_attn = variant != TEXTBOOK


def make_inputs(size: str, batch: int) -> ModelInputs:
    """Noise; the contents of a window affect neither time nor memory."""
    config = CONFIGS[size]
    columns, bands = np.multiply(config.audio_grid, config.audio_patch)
    frames = torch.randn(batch, config.frame_count, 3, config.image_size, config.image_size)
    return ModelInputs(frames, torch.randn(batch, bands, columns))


def step_memories(size: str, batch: int) -> Table:
    """What is kept for the backward pass, and the peak without the model."""
    table: Table = {}
    measured = {}
    for variant in (TEXTBOOK, OURS, CHECKPOINTED):
        # A process inherits the peak of its parent, which must not have built a model yet.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            measured[variant] = np.array(pool.submit(step_memory, size, variant, batch).result())
        kept, peak = measured[variant] / 1e9
        of_kept, of_peak = measured[variant] / measured[TEXTBOOK]
        table[variant] = {"GB kept": kept, "ratio, kept": of_kept, "GB at most": peak, "ratio": of_peak}
    return table


def step_memory(size: str, variant: str, batch: int) -> tuple[int, int]:
    """Bytes that autograd keeps, and growth of the process in both passes, including gradients."""
    model, inputs = make_model(size, variant).train(), make_inputs(size, batch)
    built = peak_memory()
    with saved_storages(model) as kept:
        take_step(model, inputs)
    return sum(kept.values()), peak_memory() - built


def take_step(model: AVFFMAE, inputs: ModelInputs) -> None:
    """Both passes of stage one, without the update."""
    logged = model.pretraining_loss(inputs, torch.Generator().manual_seed(0))
    (logged["loss"] + logged["critic_loss"]).backward()
    model.zero_grad()


def peak_memory() -> int:
    """Peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def time_steps(model: AVFFMAE, inputs: ModelInputs, repeats: int) -> Table:
    def step(variant: str) -> None:
        set_variant(model, variant)
        take_step(model, inputs)

    model.train()
    works = {variant: partial(step, variant) for variant in (TEXTBOOK, OURS, CHECKPOINTED)}
    # Half a minute each, so the first call needs no warm-up.
    seconds = take_turns(works, repeats, warm_up=False, clock=time.process_time)
    return {
        variant: {"seconds": spread(values), "time, ratio": spread(values / seconds[TEXTBOOK])}
        for variant, values in seconds.items()
    }


def count_flops(model: AVFFMAE, inputs: ModelInputs) -> Counter[str]:
    """FLOPs of a forward pass, by part."""
    # PyTorch counts nothing in the CPU's fused attention, so its single products are counted instead.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(inputs)
    flops: Counter[str] = Counter()
    for operation, count in counter.get_flop_counts()["Global"].items():
        flops[PARTS[operation.__name__]] += count
    return flops


def time_forward(model: AVFFMAE, inputs: ModelInputs, flops: int, repeats: int) -> tuple[Table, float]:
    """Rates, and the share of the large product's rate that the model reaches."""

    def forward(variant: str) -> None:
        set_variant(model, variant)
        model(inputs)

    works: dict[str, Callable[[], object]] = {}
    work_flops = {}
    for name, (rows, inner, columns) in PRODUCTS.items():
        works[name] = partial(torch.mm, torch.randn(rows, inner), torch.randn(inner, columns))
        work_flops[name] = 2 * rows * inner * columns
    for variant in (TEXTBOOK, OURS):
        works[variant], work_flops[variant] = partial(forward, variant), flops
    seconds = take_turns(works, repeats, clock=time.process_time)
    rates = {name: work_flops[name] / values for name, values in seconds.items()}
    table: Table = {
        name: {"GFLOP/s": spread(values / 1e9), "ours / this": spread(rates[OURS] / values)}
        for name, values in rates.items()
    }
    return table, float(np.median(rates[OURS] / rates["large product"]))


def profile_parts(model: AVFFMAE, inputs: ModelInputs, flops: Counter[str], share: float) -> Table:
    """By part: its share of the time, and the part of it beyond its FLOPs at the large product's rate.

    The latter add up to the difference from 100 % of that rate.
    """
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        for _ in range(2):
            model(inputs)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        times[PARTS.get(event.key.removeprefix("aten::"), "rest")] += event.self_cpu_time_total
    table: Table = {}
    for name, spent in times.most_common():
        of_time = spent / times.total()
        beyond = of_time - share * flops[name] / flops.total()
        table[name] = {"share of the time": f"{of_time:.1%}", "beyond its FLOPs": f"{beyond:.1%}"}
    return table


if __name__ == "__main__":
    print_tables(tyro.cli(measure))
