"""What memory studies leave behind."""

import subprocess
import sys

import pytest

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


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read as Linux says it")
def test_a_search_gives_back_what_its_networks_held():
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    before, after, most = map(int, done.stdout.split())
    assert most - before > 80e6
    assert after - before < 0.5 * (most - before)
