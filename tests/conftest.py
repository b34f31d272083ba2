"""Tests run on the CPU and keep compiled programs in `.cache/`, so that a second run starts faster. XLA's back end
optimises less for them: compiling takes two thirds of the time, loops are as fast (at level 0 they are not). Fused
loops are emitted by the older emitters, without an MLIR context and its passes for each, which takes a fifth to two
fifths off what is left.

Set through the environment, before anything imports JAX, so that the commands which tests start have it too.
"""

import os

from repro import platform

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(platform.xla_cache()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1 --xla_cpu_use_fusion_emitters=false")
