"""What hosts do together, without a run: `python -m tests.multihost.scenes SCENE`, on every host."""

import json
import os
import signal
import sys
import time

from dar_jax import hosts
from dar_jax.cli.main import guarded
from dar_jax.errors import SettingError


def say(**found: object) -> None:
    print(json.dumps(found), flush=True)


def talk() -> None:
    """Gather, divide, agree, fail together."""
    me = hosts.index()
    say(count=hosts.count(), first=hosts.is_first(), gathered=hosts.gather("squares", me * me, int))
    say(union=hosts.union("texts", {me: f"of {me}", 3 - me: "more"}, str))
    say(at_first=hosts.union_at_first("rows", {me: {"nan": float("nan")}}, dict[str, float]))
    hosts.agree({"steps": "3", "seed": "0"})
    for body in (lambda: hosts.agree({"steps": str(3 + me), "seed": "0"}), lambda: _fail_on(1)):
        try:
            body()
        except SettingError as error:
            say(error=str(error))
    say(after=hosts.gather("after", me, int))


def _fail_on(host: int) -> None:
    with hosts.together("a file"):
        if hosts.index() == host:
            raise SettingError("a file: it is not here")


def lay() -> None:
    """Move arrays onto a mesh of all hosts' devices, and back."""
    import jax
    import numpy as np

    from dar_jax import parallel
    from dar_jax.parallel import MeshShape

    number_B, key = np.arange(16, dtype=np.int32), jax.random.key(7)
    for shape in (MeshShape(), MeshShape(fsdp=2, tensor=2), MeshShape(tensor=4)):
        mesh = shape.build()
        with jax.set_mesh(mesh):
            placed = parallel.rows(number_B, mesh)
            rows, own = parallel.local_rows({"a": placed}, 8, mesh)
            odd, _ = parallel.local_rows(parallel.rows(number_B[:6], mesh), 3, mesh)
            drawn = jax.jit(lambda key: jax.random.bits(key))(parallel.replicated(key, mesh))
            say(rows=rows, own=own["a"].tolist(), odd=odd, bits=int(drawn), whole=parallel.whole(placed, mesh).tolist())
    try:
        parallel.replicated(np.float32(hosts.index()), mesh)
    except SettingError as error:
        say(error=str(error))


def checkpoint() -> None:
    """Save what lies on all hosts; load it, load what is damaged for one host's read, and move that aside."""
    from pathlib import Path

    import jax
    import numpy as np

    from dar_jax import parallel
    from dar_jax.checkpoints import RunState
    from dar_jax.checkpoints.checksums import checksum
    from dar_jax.parallel import MeshShape

    mesh, folder = MeshShape().build(), Path(os.environ["FOLDER"]) / "run" / "checkpoints"
    with jax.set_mesh(mesh), RunState(folder, keep=3) as saved:
        trees = {"params": parallel.rows(np.arange(4096, dtype=np.float32).reshape(8, 512), mesh)}
        saved.save(4, trees, {"step": 1}, None)
        saved.save(8, trees, {"step": 2}, None)
        saved.settle()
        shape = parallel.abstract_rows(
            jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), trees), mesh
        )
        with hosts.together("damage"):
            if hosts.is_first():
                for file in (folder / "8" / "params").rglob("d/*"):
                    file.write_bytes(file.read_bytes()[:-40])
        found, progress, _ = saved.load(4, shape, mesh)
        say(progress=progress, same=checksum(found["params"]) == checksum(trees["params"]))
        try:
            saved.load(8, shape, mesh)
        except SettingError as error:
            say(error=str(error))
        saved.set_aside([8])
        say(left=saved.numbers)


def guard() -> None:
    """Call what takes all hosts from the judge's thread."""
    import jax
    import numpy as np

    from dar_jax import parallel
    from dar_jax.chat.background import BackgroundLoop

    mesh = parallel.MeshShape().build()
    placed = parallel.rows(np.arange(8), mesh)

    async def on_devices() -> None:
        parallel.whole(placed, mesh)

    async def among_hosts() -> None:
        hosts.gather("from a thread", 1, int)

    judge = BackgroundLoop("judge")
    with jax.thread_guard(True):
        for work in (on_devices, among_hosts):
            try:
                judge.start(work()).result(60)
            except Exception as error:
                say(refused=f"{type(error).__name__}: {error}")
        say(here=parallel.whole(placed, mesh).tolist())
    judge.close()


def fail_alone() -> None:
    """Fail on host 1 while host 0 waits for it."""
    if hosts.index() == 1:
        raise ValueError("a fault of this host alone")
    hosts.gather("never", 0, int)


def be_killed() -> None:
    """Wait for ever, for one that is killed."""
    say(ready=os.getpid())
    if hosts.index() == int(os.environ["VICTIM"]):
        time.sleep(600)
    hosts.gather("never", 0, int)


def lose_the_minder() -> None:
    """Kill the process that minds this one."""
    say(child=os.getpid())
    hosts.gather("both have said so", 0, int)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)


def main(scene: str) -> int:
    joining = hosts.find()

    def play() -> None:
        with hosts.joined(joining):
            globals()[scene]()

    return hosts.mind(lambda: guarded(play))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
