"""The hosts of a run: processes that run one program on the devices of all.

    mind(run)                      in a child process, so that its end can be told whatever happens
    with joined(joining):          meet the others, or none; watch that they live
        count(), index(), is_first()
        gather(what, value, kind)  every host's value, on every host
        union(what, part, kind)    values by number, each number one host's, in order; `union_at_first` where large
        agree(facts)               the same on every host, or a SettingError on each
        with together(what): ...   what fails on one fails on all

A host alone needs none of it: every call is then free. Nothing here imports jax before `joined` is told to.
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
