"""A steady step allocates nothing: not in libtorch, not in Rust, not over 100,000 steps."""

import numpy as np
import polytask as pt
import psutil
from conftest import Data, make_model
from torch.profiler import ProfilerActivity, profile

# Formulas allocate in each step: all of this is of the loops, whatever `POLYTASK_BACKEND` asks for.
FIT = {"batch_size": 32, "progress": False, "train_metrics": False}


def memory_events(trainer, data, epochs):
    """How often libtorch allocated or freed while so many epochs of 10 steps ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        trainer.fit(data.whole, epochs=epochs, **FIT)
    return sum(event.name() == "[memory]" for event in profiler.profiler.kineto_results.events())


def test_100_and_200_steps_have_equally_many_memory_events():
    data = Data(320)
    trainer = pt.Trainer(make_model())
    trainer.model._core.to("loops")
    assert memory_events(trainer, data, 1) > 0, "the profiler should see the plan being made"
    assert memory_events(trainer, data, 10) == memory_events(trainer, data, 20)


def test_resident_memory_is_flat_over_100_000_steps():
    rng = np.random.default_rng(0)
    rows = 100_000
    model = pt.MultiTaskModel(input_size=4, hidden_size=4, output_sizes=[2, 2])
    trainer = pt.Trainer(model)
    model._core.to("loops")
    data = (rng.normal(size=(rows, 4)).astype(np.float32), rng.integers(0, 2, rows), rng.integers(0, 2, rows))
    process = psutil.Process()
    trainer.fit(data, epochs=1, **{**FIT, "batch_size": 10})
    before = process.memory_info().rss
    trainer.fit(data, epochs=10, **{**FIT, "batch_size": 10})
    assert trainer.steps == 110_000
    assert process.memory_info().rss - before < 2**20
