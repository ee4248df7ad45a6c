"""Eight CPU devices for every test, set before jax is imported; absl flags usable without an absl app.

LLVM leaves what it compiles for the tests unoptimised, since most of it runs once. The commands that
`tests.e2e.test_evaluation` and `tests.faults` start are optimised as a user's.
"""

from __future__ import annotations

import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join(
    ("--xla_backend_optimization_level=0", os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8")
)

# One folder of compiled programs for all tests and the processes that they start, pytest-xdist's workers among them:
# most train the same tiny network.
if "LUAB_JAX_TEST_CACHE" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix="luab_jax_test_cache_")
    os.environ["LUAB_JAX_TEST_CACHE"] = _CACHE.name

from absl import flags
from hypothesis import settings

# The same inputs in every run, so that a run that fails has a reason in the change; new ones are `tests.fuzz`'s part.
settings.register_profile("same_inputs", derandomize=True, database=None)
settings.load_profile("same_inputs")

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
