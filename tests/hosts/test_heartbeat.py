"""Signs of life over a store in this process."""

import subprocess
import sys
import threading

from dar_jax.hosts.heartbeat import Watch
from tests.hosts.test_rendezvous import Shelf


class Slow(Shelf):
    """A store in which a look takes until the test goes on."""

    def __init__(self):
        super().__init__()
        self.looking, self.go_on = threading.Event(), threading.Event()

    def key_value_dir_get(self, key):
        self.looking.set()
        self.go_on.wait(30)
        return super().key_value_dir_get(key)


def test_whoever_leaves_last_has_said_so_before_it_is_told_that_all_are_gone():
    """A host that left in the middle of a look saw the other gone, and went without a word: that one waited for it."""
    shelf = Slow()
    watch = Watch(shelf, 1, ["host 0", "host 1"], lost_after_s=60)
    shelf.looking.wait(30)
    shelf.key_value_set("dar_jax_signs/0", '{"left": ""}')
    threading.Timer(0.2, shelf.go_on.set).start()
    assert watch.leave("", 30)
    watch.close()
    assert '"left"' in dict(shelf.key_value_dir_get("dar_jax_signs/"))["dar_jax_signs/1"]


def test_a_host_that_stays_is_waited_for_only_so_long():
    shelf = Shelf()
    watch = Watch(shelf, 0, ["host 0", "host 1"], lost_after_s=60)
    assert not watch.leave("", 0.3)
    watch.close()


def test_a_coordinator_that_does_not_answer_is_named_in_time():
    """It was stopped: whoever asks its store waits for ever."""
    code = """if True:
        import time
        from dar_jax.hosts.heartbeat import Watch
        class Stopped:
            def key_value_set(self, *args): time.sleep(60)
        Watch(Stopped(), 1, ["host 0 (first)", "host 1"], lost_after_s=0.5)
        time.sleep(60)
        """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 6
    assert "host 0 (first) is gone: it coordinates, and gave no answer for 0.5 s" in ended.stderr
    assert "--resume" in ended.stderr
