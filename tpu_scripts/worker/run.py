"""Start the run on this host, or go on with it. A service manager calls this again after every interruption."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from buckets import folder
from secret_manager import read_secret

from dar_jax.errors import DarError


def main(arguments: Sequence[str]) -> NoReturn:
    """Prepare the environment and become `dar-jax train`, whose exit status is then this one's."""
    options = _parse(arguments)
    os.environ.update(pair.split("=", 1) for pair in options.env)
    os.environ["DAR_JAX_START_TIMEOUT"] = str(options.start_timeout)
    if options.compile_cache != "none":
        os.environ["JAX_COMPILATION_CACHE_DIR"] = options.compile_cache
    try:
        _read_secrets(options.secret)
        command = ["train", *_what_to_train(options)]
    except DarError as error:
        print(f"run.py: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    os.execv(sys.executable, [sys.executable, "-u", "-m", "dar_jax", *command])


def _read_secrets(pairs: Sequence[str]) -> None:
    for variable, secret in (pair.split("=", 1) for pair in pairs):
        if not os.environ.get(variable):
            os.environ[variable] = read_secret(secret)


def _what_to_train(options: argparse.Namespace) -> list[str]:
    # All hosts find the same: process 0 writes config.yaml only after every process has joined it.
    exists = folder(options.run_dir).read("config.yaml")[0] is not None
    start = ["--resume", options.run_dir] if exists else [options.config, "--run-dir", options.run_dir]
    return [*start, *options.settings]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--secret", action="append", default=[], metavar="VARIABLE=projects/P/secrets/NAME")
    parser.add_argument("--env", action="append", default=[], metavar="VARIABLE=VALUE")
    parser.add_argument("--compile-cache", default="none", help="a URL, or none")
    parser.add_argument("--start-timeout", type=int, default=1800, help="seconds to wait for the other hosts")
    parser.add_argument("settings", nargs="*", metavar="key.sub=value")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
