"""Run the natural scripts, each in a process of its own or all in one, and say which work.

Those of pytorch and sklearn were typed before their author had seen more than the README; those of pytorch_after and
sklearn_after with the guide at hand.
"""

import argparse
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
GROUPS = ("pytorch", "pytorch_after", "sklearn", "sklearn_after")
LIMIT = 120  # seconds a script


def chosen(names):
    """Paths of the scripts named: none for all, a group, a file, or the beginning of a file's name."""
    scripts = sorted(path for group in GROUPS for path in (HERE / group).glob("*.py"))
    if not names:
        return scripts
    found = []
    for name in names:
        short = name.removesuffix(".py").rstrip("/")
        hits = [
            path
            for path in scripts
            if path.parent.name == short
            or (path.stem.startswith(Path(short).name) and str(path.with_suffix("")).find(short) >= 0)
        ]
        if not hits:
            raise SystemExit(f"run.py: no script or group is named {name!r}; groups are {', '.join(GROUPS)}")
        found += [path for path in hits if path not in found]
    return found


def run(path):
    """`works`, `fails: ...` or `needs ...` of one script."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that a loader's workers end with it
    )
    try:
        stderr = process.communicate(timeout=LIMIT)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"fails: still running after {LIMIT} s"
    return "works" if process.returncode == 0 else verdict(stderr, process.returncode)


def run_here(path):
    """The same in this process, which has imported everything; of what starts others, in one of its own."""
    if "multiprocessing" in path.read_text(encoding="utf-8"):
        return run(path)
    try:
        runpy.run_path(str(path), run_name="__main__")
    except Exception:
        return verdict(traceback.format_exc(), 1)
    return "works"


def verdict(stderr, code):
    """The last line of the traceback, beginning with the error's name, or the package that is not installed."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    start = max((i for i, line in enumerate(lines) if line.startswith("Traceback ")), default=None)
    if start is None:
        return f"fails: exit status {code}: {lines[-1] if lines else 'no message'}"
    errors = [i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")]
    if not errors:
        return f"fails: exit status {code}: {lines[-1]}"
    message = lines[errors[0]].strip()
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", message)
    if missing and missing[1].split(".")[0] != "polytask":
        return f"needs {missing[1].split('.')[0]}"
    if message == "AssertionError":  # says nothing alone: show the line of the script
        line = next((text.strip() for text in reversed(lines[start:]) if text.strip().startswith("assert")), "")
        message = f"{message}: {line}" if line else message
    return f"fails: {message}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"groups ({', '.join(GROUPS)}) or scripts; default all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    parser.add_argument("--jobs", type=int, default=1, help="scripts at once (default 1)")
    parser.add_argument("--here", action="store_true", help="all in this process, which is faster")
    arguments = parser.parse_args()
    scripts = chosen(arguments.names)
    results = {}
    runs = run_here if arguments.here else run
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for path, result in zip(scripts, pool.map(runs, scripts), strict=True):
            name = f"{path.parent.name}/{path.name}"
            results[name] = result
            print(f"{name}: {result}", flush=True)
    for group in (*GROUPS, "all"):
        own = [result for name, result in results.items() if group in ("all", name.split("/")[0])]
        if own:
            counts = [
                sum(result.split(":")[0].split()[0] == kind for result in own) for kind in ("works", "fails", "needs")
            ]
            print(f"{group}: {len(own)} scripts, {counts[0]} work, {counts[1]} fail, {counts[2]} need a package")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
