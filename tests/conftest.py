"""Eight virtual CPU devices for every test, so that sharding is real."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
