"""The steps of `benchmarks/gpu.sh`: what one short visit to a GPU can settle, in the order of worth."""
