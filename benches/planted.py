"""Whether measures of relatedness find groups of tasks that were planted: adjusted Rand index over noise.

    python benches/planted.py target/planted.jsonl [--draws 20]

Tasks are functions of features of their group alone: five random directions of 30 inputs a group, of which each task
has a common part (correlation 0.9 with its fellows) and a part of its own, plus noise; one more task is noise alone.
Groups are 2 to 5 in turn, of three tasks each. 300 rows to learn from, 3,000 to compare on. Each result is written
when it is there, and a second call goes on. At the end the table is printed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import polytask as pt
from sklearn.metrics import adjusted_rand_score

INPUTS, DIRECTIONS, TASKS = 30, 5, 3
ROWS, HELD_OUT = 300, 3000
#: Standard deviations of noise, of functions with deviation 1; 1.0 is called moderate.
NOISES = [0.5, 1.0, 2.0]
METHODS = ["transfer", "relation", "affinity", "gradients", "representation", "labels"]
SEEDS = 5


def planted(draw: int, noise: float, correlation: float = 0.9):
    """Training rows, held-out rows, and the group of each task, the last of which is noise."""
    random = np.random.default_rng([2718, draw])
    groups = 2 + draw % 4
    rows = ROWS + HELD_OUT
    x = random.normal(size=(rows, INPUTS)).astype(np.float32)
    directions = np.linalg.qr(random.normal(size=(INPUTS, INPUTS)))[0]
    targets, truth = {}, []
    for group in range(groups):
        own = directions[:, group * DIRECTIONS : (group + 1) * DIRECTIONS]
        hidden = np.tanh(2 * x @ own @ random.normal(size=(DIRECTIONS, 4)) / np.sqrt(DIRECTIONS / 3))
        common = unit(hidden @ random.normal(size=4))
        for task in range(TASKS):
            apart = unit(hidden @ random.normal(size=4))
            function = unit(np.sqrt(correlation) * common + np.sqrt(1 - correlation) * apart)
            targets[f"group{group}_{task}"] = (function + noise * random.normal(size=rows)).astype(np.float32)
            truth.append(group)
    targets["noise"] = random.normal(size=rows).astype(np.float32)
    truth.append(groups)
    first = x[:ROWS], {name: values[:ROWS] for name, values in targets.items()}
    second = x[ROWS:], {name: values[ROWS:] for name, values in targets.items()}
    return first, second, truth


def unit(values):
    return (values - values.mean()) / values.std()


def found(draw: int, noise: float, method: str) -> dict[str, float]:
    train, held_out, truth = planted(draw, noise)
    tasks = [pt.Task(name) for name in train[1]]
    model = pt.MultiTaskModel(INPUTS, tasks=tasks, encoder=pt.encoder.MLP([64, 32]))
    began = time.perf_counter()
    measured = pt.relatedness(
        model, train, method, validation=held_out, epochs=60, batch_size=32, seeds=SEEDS, lr=3e-3, progress=False
    )
    seconds = time.perf_counter() - began
    scores = {"seconds": seconds}
    for name, groups in (("ari", measured.groups()), ("ari_k", measured.groups(k=max(truth) + 1))):
        place = {task: at for at, group in enumerate(groups) for task in group}
        scores[name] = adjusted_rand_score(truth, [place[task] for task in measured.tasks])
        if name == "ari":
            scores["noise_alone"] = float(["noise"] in list(groups))
    return scores


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("results", type=Path)
    arguments.add_argument("--draws", type=int, default=20)
    asked = arguments.parse_args()
    asked.results.parent.mkdir(parents=True, exist_ok=True)
    done = {}
    if asked.results.exists():
        for line in asked.results.read_text().splitlines():
            each = json.loads(line)
            done[each["draw"], each["noise"], each["method"]] = each
    for noise in NOISES:
        for draw in range(asked.draws):
            for method in METHODS:
                if (draw, noise, method) in done:
                    continue
                each = {"draw": draw, "noise": noise, "method": method, **found(draw, noise, method)}
                done[draw, noise, method] = each
                with asked.results.open("a") as file:
                    file.write(json.dumps(each) + "\n")
        print(f"noise {noise}: done", file=sys.stderr, flush=True)
    print("| measure |" + "".join(f" noise {noise} |" for noise in NOISES) + " noise task alone at 1.0 |")
    print("|---|" + "--:|" * (len(NOISES) + 1))
    for method in METHODS:
        cells = []
        for noise in NOISES:
            each = [done[draw, noise, method]["ari"] for draw in range(asked.draws)]
            cells.append(f"{np.mean(each):.3f}")
        alone = [done[draw, 1.0, method]["noise_alone"] for draw in range(asked.draws)]
        print(f"| {method} | " + " | ".join(cells) + f" | {sum(alone):.0f} of {asked.draws} |")


if __name__ == "__main__":
    main()
