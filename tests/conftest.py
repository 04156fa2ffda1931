"""Eight virtual CPU devices for every test, so that sharding is real."""

import atexit
import shutil
import tempfile

import jax

jax.config.update("jax_num_cpu_devices", 8)
# The runs of these tests compile the same few programs again and again.
cache = tempfile.mkdtemp(prefix="dar-jax-tests-")
atexit.register(shutil.rmtree, cache, ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", cache)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
