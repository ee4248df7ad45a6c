"""Imports nothing, since XLA reads its flags as jax is imported."""

QUICK_TO_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
"""What is compiled for a test runs once, mostly: LLVM optimises nothing, and XLA emits fusions by its older emitters.
A step with RandAugment takes 3.6 s of CPU to compile, 6.3 s with the newer emitters, 13 s as users compile. Every
program is one LLVM module: in parts it takes more CPU, and the other cores have tests of their own."""
