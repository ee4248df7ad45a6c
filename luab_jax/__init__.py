"""Learning using annotation byproducts (LUAB) in JAX: training, evaluation and the data they share.

    import luab_jax

    model = luab_jax.load("RUNS/r50")                  # or "timm:resnet50.tv_in1k:FILE.safetensors"
    logits = model(images)                             # uint8 [B, H, W, 3], paths or PIL images
    results = luab_jax.run_suites(model, data="DATA", suites="all", out="results.json")

Names are loaded when they are first used, so that the import itself is quick and loads no jax. docs/api.md lists them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from luab_jax.api import (
        ForeignModel,
        Model,
        SuiteResults,
        draw_preview,
        export_timm,
        load,
        run_suites,
        run_suites_together,
        train,
    )
    from luab_jax.byproducts.targets import Target
    from luab_jax.config import Config
    from luab_jax.data.class_lists import ClassList
    from luab_jax.data.transforms import Preprocessing, ResizeFilter, Stored
    from luab_jax.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        ExitCode,
        ShardError,
        StorageError,
        UserError,
    )
    from luab_jax.evaluation.answers import Answer, Answers
    from luab_jax.evaluation.predictions import Predictions, whole
    from luab_jax.evaluation.suite import Need, Part, Procedure, Scored, Suite, View
    from luab_jax.foreign.inputs import Channels, InputFormat, Layout
    from luab_jax.foreign.model import FunctionModel, Outputs
    from luab_jax.recipes import recipe
    from luab_jax.report.write import write_report
    from luab_jax.results.format import File
    from luab_jax.results.read import read_results
    from luab_jax.results.score import Direction, Score

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(
        (
            *("ForeignModel", "Model", "SuiteResults", "draw_preview", "export_timm", "load", "run_suites"),
            *("run_suites_together", "train"),
        ),
        "luab_jax.api",
    ),
    "Target": "luab_jax.byproducts.targets",
    "Config": "luab_jax.config",
    "ClassList": "luab_jax.data.class_lists",
    **dict.fromkeys(("Preprocessing", "ResizeFilter", "Stored"), "luab_jax.data.transforms"),
    **dict.fromkeys(
        ("CheckpointError", "ConfigError", "DataError", "ExitCode", "ShardError", "StorageError", "UserError"),
        "luab_jax.errors",
    ),
    **dict.fromkeys(("Answer", "Answers"), "luab_jax.evaluation.answers"),
    **dict.fromkeys(("Predictions", "whole"), "luab_jax.evaluation.predictions"),
    **dict.fromkeys(("Need", "Part", "Procedure", "Scored", "Suite", "View"), "luab_jax.evaluation.suite"),
    **dict.fromkeys(("Channels", "InputFormat", "Layout"), "luab_jax.foreign.inputs"),
    **dict.fromkeys(("FunctionModel", "Outputs"), "luab_jax.foreign.model"),
    "recipe": "luab_jax.recipes",
    "write_report": "luab_jax.report.write",
    "File": "luab_jax.results.format",
    "read_results": "luab_jax.results.read",
    **dict.fromkeys(("Direction", "Score"), "luab_jax.results.score"),
}
"""Public name to the module that has it."""

__all__ = [
    "Answer",
    "Answers",
    "Channels",
    "CheckpointError",
    "ClassList",
    "Config",
    "ConfigError",
    "DataError",
    "Direction",
    "ExitCode",
    "File",
    "ForeignModel",
    "FunctionModel",
    "InputFormat",
    "Layout",
    "Model",
    "Need",
    "Outputs",
    "Part",
    "Predictions",
    "Preprocessing",
    "Procedure",
    "ResizeFilter",
    "Score",
    "Scored",
    "ShardError",
    "StorageError",
    "Stored",
    "Suite",
    "SuiteResults",
    "Target",
    "UserError",
    "View",
    "draw_preview",
    "export_timm",
    "load",
    "read_results",
    "recipe",
    "run_suites",
    "run_suites_together",
    "train",
    "whole",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
