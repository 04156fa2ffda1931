"""Check this host before a run starts on it; print its name and a digest of what is installed."""

import argparse
import hashlib
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from buckets import folder
from secret_manager import read_secret

import dar_jax
from dar_jax.errors import DarError


def main(arguments: Sequence[str]) -> int:
    """Return 0 where a run could start; else say in one line what keeps it from that."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--secret", action="append", default=[], metavar="VARIABLE=projects/P/secrets/NAME")
    options = parser.parse_args(arguments)
    host = socket.gethostname()
    try:
        _check_idle()
        _check_bucket(f"{options.run_dir}.hosts", f"preflight-{host}")
        for pair in options.secret:
            read_secret(pair.split("=", 1)[1])
    except DarError as error:
        print(f"{host}: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{host} {installed()}")
    return 0


def installed() -> str:
    """Digest the versions of Python and of every package, and dar_jax's own source."""
    digest = hashlib.sha256(sys.version.encode())
    for line in sorted(f"{each.name}=={each.version}\n" for each in distributions()):
        digest.update(line.encode())
    for path in sorted(Path(dar_jax.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _check_idle() -> None:
    # `is-active` would not count a run that waits to be started again.
    command = ["systemctl", "show", "dar-jax", "--property=ActiveState"]
    state = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if state not in ("ActiveState=inactive", "ActiveState=failed"):
        raise DarError(f"a run is under way ({state}); look with status.sh, end it with stop.sh")


def _check_bucket(where: str, name: str) -> None:
    # Beside the run folder, since dar-jax starts in an empty one only.
    objects, content = folder(where), name.encode()
    _, generation = objects.read(name)
    objects.replace(name, content, generation).finish()
    if objects.read(name)[0] != content:
        raise DarError(f"{where}/{name}: what was written is not what is read")
    objects.delete([name])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
