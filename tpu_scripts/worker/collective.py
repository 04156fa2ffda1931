"""Add up a number of every device of every host: the smallest program that needs them all."""

import argparse
import socket

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def main() -> None:
    """Join the other hosts and print what this one saw; on Cloud TPU no option but the timeout is needed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--timeout", type=int, default=1800, help="seconds to wait for the other hosts")
    parser.add_argument("--coordinator", help="HOST:PORT, where jax cannot tell by itself")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    options = parser.parse_args()
    jax.distributed.initialize(
        options.coordinator, options.processes, options.process, initialization_timeout=options.timeout
    )
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("all",), axis_types=(jax.sharding.AxisType.Auto,))
    row = np.arange(len(devices))
    number = jax.make_array_from_callback(row.shape, NamedSharding(mesh, PartitionSpec("all")), lambda at: row[at])
    total = int(jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(number))
    if total != row.sum():
        raise SystemExit(f"{socket.gethostname()}: the sum over {len(devices)} devices is {total}, not {row.sum()}")
    print(f"{socket.gethostname()}: process {jax.process_index()} of {jax.process_count()}, {len(devices)} devices")


if __name__ == "__main__":
    main()
