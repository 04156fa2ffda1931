"""The hosts of a run: processes that run one program on the devices of all.

    mind(run)                      run in a supervised child process
    with joined(joining):          join the distributed run (or none), with heartbeats
        count(), index(), is_first()
        gather(what, value, kind)  every host's value, on every host
        union(what, part, kind)    merge values by number, in order; `union_at_first` on host 0 only
        agree(facts)               raise SettingError on every host if facts differ
        with together(what): ...   a barrier; an error on one host is raised on all

With one host every call is free. Nothing here imports jax before `joined`.
"""

from dar_jax.hosts.joined import agree, count, gather, index, is_first, joined, names, together, union, union_at_first
from dar_jax.hosts.joining import Joining, find
from dar_jax.hosts.supervisor import mind

__all__ = [
    "Joining",
    "agree",
    "count",
    "find",
    "gather",
    "index",
    "is_first",
    "joined",
    "mind",
    "names",
    "together",
    "union",
    "union_at_first",
]
