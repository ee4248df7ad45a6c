"""The peer's training step in the same visit: timm + torch.compile, bf16 autocast, channels_last, fused optimiser.

    python -m benchmarks.gpu.peer vit_b --out=DIR

The work is that of our step without augmentation: uint8 pixels on the device, normalised there, cross-entropy with the
recipe's label smoothing, stochastic depth, AdamW or SGD with Nesterov momentum, all as timm's train.py does it with
`--amp --amp-dtype bfloat16 --channels-last --torchcompile`. The batch is the one at which ours was measured before, if
it fits here too.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.models import IMAGE_SIZE, MODELS, TOY_SIZE, Variant, batch_sizes, config_of
from benchmarks.gpu.record import Results, parser, read
from luab_jax.config import Config, Optimizer

PACKAGES = ("torch", "torchvision", "timm", "triton")


def peer_results(out: Path, torch: Any) -> Results:
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
    found = {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    return Results(out, "peer", device=device, versions=found)


def make_model(model: str, config: Config, *, rehearse: bool) -> Any:
    import timm  # pyright: ignore[reportMissingImports]

    options: dict[str, Any] = {"num_classes": 1000}
    if MODELS[model].is_vit:
        options["drop_path_rate"] = config.model.drop_path
        if rehearse:
            options |= {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": TOY_SIZE}
    elif rehearse:
        return timm.create_model("resnet10t", **options)
    return timm.create_model(MODELS[model].timm, **options)


def make_optimizer(config: Config, network: Any, torch: Any, *, fused: bool) -> Any:
    """Of the recipe, with weight decay on matrices alone for AdamW, as in ours."""
    optim = config.optim
    if optim.name is Optimizer.SGD:
        return torch.optim.SGD(
            network.parameters(),
            lr=optim.learning_rate,
            momentum=optim.momentum,
            nesterov=optim.nesterov,
            weight_decay=optim.weight_decay,
            fused=fused,
        )
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-4, betas=(optim.beta1, optim.beta2), eps=optim.epsilon, fused=fused)


def make_step(model: str, config: Config, torch: Any, *, rehearse: bool) -> Callable[[], Any]:
    """A training step on one drawn batch that lies on the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = TOY_SIZE if rehearse else IMAGE_SIZE
    network = make_model(model, config, rehearse=rehearse).to(device=device, memory_format=torch.channels_last).train()
    optimizer = make_optimizer(config, network, torch, fused=device.type == "cuda")
    compiled = torch.compile(network, backend="eager" if rehearse else "inductor")
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (config.batch_size, side, side, 3), np.uint8)).to(device)
    labels = torch.from_numpy(rng.integers(0, 1000, config.batch_size)).to(device)
    preprocessing = config.data.preprocessing
    mean, std = (
        255 * torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )

    def step() -> Any:
        images = pixels.permute(0, 3, 1, 2).float().sub(mean).div(std)
        with torch.autocast(device.type, torch.bfloat16):
            loss = loss_of(compiled(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return step


def timed(step: Callable[[], Any], steps: int, torch: Any) -> tuple[float, float]:
    """Seconds of one step, and the last loss."""
    start = time.perf_counter()
    loss = None
    for _ in range(steps):
        loss = step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    assert loss is not None
    return (time.perf_counter() - start) / steps, float(loss.detach())


def measure(model: str, config: Config, results: Results, torch: Any, *, rehearse: bool) -> None:
    step = make_step(model, config, torch, rehearse=rehearse)
    start = time.perf_counter()
    timed(step, 2, torch)
    compile_s = time.perf_counter() - start
    one, _ = timed(step, 2, torch)
    count = max(2, min(50, round((0.05 if rehearse else 0.7) / one)))
    rounds = [timed(step, count, torch) for _ in range(3 if rehearse else 8)]
    seconds = [seconds for seconds, _ in rounds]
    median = float(np.median(seconds))
    results.add(
        f"{model}: timm + torch.compile",
        model=model,
        variant="timm + torch.compile",
        batch=config.batch_size,
        ms=1e3 * median,
        ms_10_90=[1e3 * float(x) for x in np.percentile(seconds, [10, 90])],
        images_per_s=config.batch_size / median,
        compile_s=compile_s,
        gb_peak=torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
        finite=all(np.isfinite(loss) for _, loss in rounds),
    )


def batches_to_try(model: str, out: Path, *, rehearse: bool) -> list[int]:
    """Ours first, if it was measured and is not known to be too large for the peer."""
    largest = MODELS[model].peer_batch
    ours = [line["batch"] for line in read(out) if line.get("model") == model and "batch" in line]
    first = min([*ours[-1:], largest])
    return [first, *(size for size in batch_sizes(model, rehearse=rehearse) if size < first)]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("models", nargs="+", choices=MODELS)
    arguments = options.parse_args()
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("timm")):
        print("peer: skipped, torch and timm are not installed")
        return
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    results = peer_results(arguments.out, torch)
    for model in arguments.models:
        for batch_size in batches_to_try(model, arguments.out, rehearse=arguments.rehearse):
            config = config_of(model, Variant("baseline", luab=False), batch_size, rehearse=arguments.rehearse)
            torch.compiler.reset()
            try:
                measure(model, config, results, torch, rehearse=arguments.rehearse)
            except Exception as e:  # whatever torch says: the next size may do, and the next model
                results.failed(f"{model}, batch {batch_size}", e)
                if "out of memory" not in str(e):
                    break
                torch.cuda.empty_cache()
                continue
            break


if __name__ == "__main__":
    main()
