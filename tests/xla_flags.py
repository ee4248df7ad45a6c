"""Imports nothing of jax, since XLA reads its flags as it is imported."""

import importlib.metadata

_OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false "
"""XLA ends the process over a flag that it does not know, and jaxlib 0.11 does not know this one any more."""
HAS_OLDER_EMITTERS = importlib.metadata.version("jaxlib").startswith("0.10.")

QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 "
    + (_OLDER_EMITTERS if HAS_OLDER_EMITTERS else "")
    + "--xla_cpu_parallel_codegen_split_count=1"
)
"""What is compiled for a test runs once, mostly: LLVM optimises nothing, and XLA emits fusions by its older emitters.
A step with RandAugment takes 3.6 s of CPU to compile, 6.3 s with the newer emitters, 13 s as users compile. Every
program is one LLVM module: in parts it takes more CPU, and the other cores have tests of their own."""
