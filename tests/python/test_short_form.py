"""The short form runs as the design prints it, and follows PyTorch's own loop."""

import numpy as np
import polytask as pt
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset


def classification(rows=512, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 10)).astype(np.float32)
    y1 = (x[:, 0] > 0).astype(np.int64)
    y2 = np.digitize(x[:, 1], [-0.5, 0.5])
    y3 = np.digitize(x[:, 2], [-0.7, 0.0, 0.7])
    return x, y1, y2, y3


@pytest.mark.usefixtures("own_seed")
def test_the_design_as_printed():
    x, y1, y2, y3 = classification()
    data_loader = DataLoader(TensorDataset(*map(torch.from_numpy, (x, y1, y2, y3))), batch_size=32)
    model = pt.MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4])
    trainer = pt.Trainer(model, lr=1e-3)
    history = trainer.fit((x, y1, y2, y3), epochs=10, batch_size=32)
    assert len(history) == 10
    assert history["loss"][-1] < history["loss"][0]
    history = trainer.fit(data_loader, epochs=10)
    assert history["epoch"] == list(range(1, 21))
    assert trainer.steps == 320
    assert history["task1/accuracy"][-1] > 0.9


def test_parameters_are_named_by_path_and_shaped_as_in_pytorch():
    model = pt.MultiTaskModel(input_size=10, hidden_size=[20, 15], output_sizes=[2, 3])
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert shapes == {
        "encoder.0.weight": (20, 10), "encoder.0.bias": (20,), "encoder.1.weight": (15, 20), "encoder.1.bias": (15,),
        "heads.task1.weight": (2, 15), "heads.task1.bias": (2,),
        "heads.task2.weight": (3, 15), "heads.task2.bias": (3,),
    }  # fmt: skip
    assert [task.name for task in model.tasks] == ["task1", "task2"]


@pytest.mark.usefixtures("own_seed")
def test_losses_follow_pytorchs_own_loop_for_200_steps():
    x, *targets = classification(rows=6400)
    model = pt.MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4], activation=None)
    state = {name: torch.from_numpy(array) for name, array in model.state_dict().items()}
    shared = torch.nn.Linear(10, 20)
    heads = torch.nn.ModuleList(torch.nn.Linear(20, width) for width in (2, 3, 4))
    shared.load_state_dict({"weight": state["encoder.0.weight"], "bias": state["encoder.0.bias"]})
    for i, head in enumerate(heads, 1):
        head.load_state_dict({"weight": state[f"heads.task{i}.weight"], "bias": state[f"heads.task{i}.bias"]})
    adam = torch.optim.Adam([*shared.parameters(), *heads.parameters()], lr=1e-3)
    loss_function = torch.nn.CrossEntropyLoss()

    trainer = pt.Trainer(model, lr=1e-3)
    for step in range(200):
        rows = slice(32 * step, 32 * step + 32)
        ours = trainer.step((x[rows], *(y[rows] for y in targets)))["loss"]
        hidden = shared(torch.from_numpy(x[rows]))
        loss = sum(
            loss_function(head(hidden), torch.from_numpy(y[rows])) for head, y in zip(heads, targets, strict=True)
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        assert ours == pytest.approx(loss.item(), rel=1e-4), step


def test_fit_in_order_is_the_same_as_steps_over_the_same_batches():
    x, *targets = classification(rows=100)
    by_fit = pt.MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4])
    by_step = pt.MultiTaskModel(input_size=10, hidden_size=20, output_sizes=[2, 3, 4])
    pt.Trainer(by_fit).fit((x, *targets), epochs=1, batch_size=32, shuffle=False, progress=False)
    trainer = pt.Trainer(by_step)
    for start in range(0, 100, 32):
        trainer.step((x[start : start + 32], *(y[start : start + 32] for y in targets)))
    for name, array in by_fit.state_dict().items():
        np.testing.assert_array_equal(array, by_step.state_dict()[name])


def test_a_linear_shared_layer_is_linear():
    model = pt.MultiTaskModel(input_size=3, hidden_size=4, output_sizes=[2], activation=None)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    raw = {scale: model.predict(scale * x, raw=True)["task1"] for scale in (0.0, 1.0, 2.0)}
    np.testing.assert_allclose(raw[2.0] - raw[1.0], raw[1.0] - raw[0.0], rtol=1e-4, atol=1e-5)
    relu = pt.MultiTaskModel(input_size=3, hidden_size=4, output_sizes=[2])
    raw = {scale: relu.predict(scale * x, raw=True)["task1"] for scale in (0.0, 1.0, 2.0)}
    assert not np.allclose(raw[2.0] - raw[1.0], raw[1.0] - raw[0.0], rtol=1e-4, atol=1e-5)


def test_the_seed_decides_the_initial_weights():
    def weights(seed):
        return pt.MultiTaskModel(input_size=3, hidden_size=4, output_sizes=[2], seed=seed).state_dict()

    np.testing.assert_array_equal(weights(1)["encoder.0.weight"], weights(1)["encoder.0.weight"])
    assert not np.array_equal(weights(1)["encoder.0.weight"], weights(2)["encoder.0.weight"])


def test_both_forms_at_once_are_refused():
    with pytest.raises(TypeError, match="`tasks` belongs to the full form"):
        pt.MultiTaskModel(tasks=[pt.Task("a")], input_size=3, hidden_size=4, output_sizes=[2])
    with pytest.raises(TypeError, match="`hidden_size` is missing"):
        pt.MultiTaskModel(input_size=3, output_sizes=[2])
