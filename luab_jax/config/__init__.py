"""What an experiment is: its fields, what follows from them, how they are written, read and compared.

`experiment` has the fields and `byproduct` those of a byproduct; `plain` makes nested or flat values of them,
`identity` tells when two configs are one experiment, `versions` reads what earlier versions stored. `flags` is the
command line, `help` explains the fields, `types` checks them.
"""

from luab_jax.config.byproduct import Byproduct, ByproductConfig, several
from luab_jax.config.experiment import (
    CheckpointConfig,
    Config,
    DataConfig,
    DistributedConfig,
    EvalConfig,
    LogConfig,
    MeshConfig,
    OptimConfig,
    Optimizer,
    Schedule,
    Task,
    WeightDecayMask,
    every_steps,
    label_set_size,
    needed_responses,
    steps_per_epoch,
    total_steps,
    warmup_steps,
)
from luab_jax.config.identity import VALUES_BEFORE, config_hash, differences, scientific_fields
from luab_jax.config.plain import entry_values, flatten, from_dict, to_dict

__all__ = [
    "VALUES_BEFORE",
    "Byproduct",
    "ByproductConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "DistributedConfig",
    "EvalConfig",
    "LogConfig",
    "MeshConfig",
    "OptimConfig",
    "Optimizer",
    "Schedule",
    "Task",
    "WeightDecayMask",
    "config_hash",
    "differences",
    "entry_values",
    "every_steps",
    "flatten",
    "from_dict",
    "label_set_size",
    "needed_responses",
    "scientific_fields",
    "several",
    "steps_per_epoch",
    "to_dict",
    "total_steps",
    "warmup_steps",
]
