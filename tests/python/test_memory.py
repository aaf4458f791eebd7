"""What memory studies leave behind."""

import subprocess
import sys

import pytest
from polytask.process import memory

SCRIPT = """
import resource
import numpy as np, pandas as pd, polytask as pt

def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

rng = np.random.default_rng(0)
frame = pd.DataFrame(rng.normal(size=(1000, 10)), columns=[f"x{i}" for i in range(10)])
frame = frame.assign(y=frame.x0, z=frame.x1)
before = held()
ensemble = pt.search([pt.Task("y"), pt.Task("z")], frame, ensemble="greedy", trials=32, epochs=1, progress=False)
print(before, held(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is given back on Linux alone")
def test_a_search_gives_back_what_its_networks_held():
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    before, after, most = map(int, done.stdout.split())
    assert most - before > 80e6
    assert after - before < 0.5 * (most - before)


def test_what_gives_back_is_as_it_was_elsewhere_too(monkeypatch):
    trims = []
    monkeypatch.setattr(memory, "give_back", lambda: trims.append(1))

    @memory.gives_back
    def half(x, *, of=2):
        """Half of it."""
        return x / of

    assert half(3.0, of=3) == 1
    with pytest.raises(ZeroDivisionError):
        half(1.0, of=0)
    assert len(trims) == 2
    assert half.__doc__ == "Half of it."
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", None)
    memory.give_back()


def test_where_the_c_library_cannot_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    memory.give_back()
