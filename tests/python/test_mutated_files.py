"""Files that were changed anywhere are opened or refused in words; `make fuzz` tries many more."""

import re
import subprocess
import sys
from pathlib import Path


def test_no_mutated_file_kills_hangs_or_fills_the_memory():
    script = Path(__file__).with_name("mutated.py")
    done = subprocess.run([sys.executable, script, "300", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.fullmatch(r"300 files: \{(.*)\}\n", done.stdout)
    counts = {name: int(count) for name, count in re.findall(r"'(\w+)': (\d+)", found[1])}
    assert counts.keys() == {"opened", "refused"}
    assert min(counts.values()) > 10
