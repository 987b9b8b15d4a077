import pytest
import torch

from opttune.guard.steps import StepGatherer, StepRecord


def optimizer_with(*rates, grads=(3.0, 4.0)):
    """One parameter a group; their gradients are 3 and 4, of norm 5."""
    groups = []
    for rate, grad in zip(rates, grads, strict=False):
        parameter = torch.zeros(1, requires_grad=True)
        parameter.grad = None if grad is None else torch.tensor([grad])
        groups.append({"params": [parameter], "lr": rate})
    return torch.optim.SGD(groups, lr=0.1)


def gather(*outputs, accumulated=1, with_grad_norm=False, optimizer=None):
    gatherer = StepGatherer(with_grad_norm)
    gatherer.before_step(optimizer or optimizer_with(0.1))
    for output in outputs:
        gatherer.add_batch(output, accumulated)
    gatherer.end_step(7)
    return gatherer


def test_a_step_is_read_with_its_loss_and_the_largest_rate():
    gatherer = gather(torch.tensor(0.5, requires_grad=True), optimizer=optimizer_with(0.01, 0.3))
    assert (len(gatherer), gatherer.is_on_cpu) == (1, True)
    assert gatherer.read() == [StepRecord(7, 0.5, pytest.approx(0.3), None)]
    assert (len(gatherer), gatherer.read()) == (0, [])


def test_the_norm_is_that_of_all_gradients_together():
    (record,) = gather(torch.tensor(0.5), with_grad_norm=True, optimizer=optimizer_with(0.1, 0.1)).read()
    assert record.grad_norm == pytest.approx(5.0)


def test_without_a_gradient_there_is_no_norm():
    optimizer = optimizer_with(0.1, 0.1, grads=(None, None))
    assert gather(torch.tensor(0.5), with_grad_norm=True, optimizer=optimizer).read()[0].grad_norm is None


def test_sparse_gradients_are_left_out_of_the_norm():
    embedding = torch.nn.Embedding(3, 2, sparse=True)
    layer = torch.nn.Linear(2, 1)
    layer(embedding(torch.tensor([0]))).sum().backward()
    optimizer = torch.optim.SGD([*embedding.parameters(), *layer.parameters()], lr=0.1)
    (record,) = gather(torch.tensor(0.5), with_grad_norm=True, optimizer=optimizer).read()
    dense = [parameter.grad for parameter in layer.parameters()]
    assert record.grad_norm == pytest.approx(float(torch.nn.utils.get_total_norm(dense)))


def test_the_loss_of_an_accumulated_step_is_the_mean_over_its_batches():
    # the Trainer hands out each batch's loss divided by the batches to a step
    batches = [torch.tensor(loss / 4) for loss in (1.0, 2.0, 3.0, 6.0)]
    assert gather(*batches, accumulated=4).read()[0].loss == pytest.approx(3.0)


def test_an_incomplete_step_is_the_mean_over_the_batches_it_has():
    batches = [torch.tensor(loss / 4) for loss in (1.0, 2.0)]
    assert gather(*batches, accumulated=4).read()[0].loss == pytest.approx(1.5)


@pytest.mark.parametrize("output", [None, {}, {"loss": None}, {"other": torch.tensor(1.0)}])
def test_a_batch_without_a_loss_is_passed_over(output):
    assert gather(output).read()[0].loss is None
    assert gather(output, torch.tensor(2.0)).read()[0].loss == 2.0


def test_the_loss_of_a_dict_is_found():
    assert gather({"loss": torch.tensor(2.0), "more": torch.zeros(3)}).read()[0].loss == 2.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_loss_of_any_precision_and_shape_is_read(dtype):
    assert gather(torch.full((1,), 0.5, dtype=dtype)).read()[0].loss == 0.5


def test_many_steps_are_read_in_their_order():
    gatherer = StepGatherer(with_grad_norm=True)
    for step in range(1, 6):
        gatherer.before_step(optimizer_with(step / 10, grads=(float(step),) if step != 3 else (None,)))
        gatherer.add_batch(None if step == 2 else torch.tensor(10.0 * step), 1)
        gatherer.end_step(step)
    assert [(r.step, r.loss, r.lr, r.grad_norm) for r in gatherer.read()] == [
        (1, 10.0, 0.1, 1.0),
        (2, None, 0.2, 2.0),
        (3, 30.0, 0.3, None),
        (4, 40.0, 0.4, 4.0),
        (5, 50.0, 0.5, 5.0),
    ]


def test_the_graph_of_a_loss_is_not_kept():
    weight = torch.ones(1, requires_grad=True)
    gatherer = gather((weight * 2).sum())
    assert not any(loss.requires_grad for _, loss, _, _ in gatherer._waiting)


def test_the_norm_of_a_step_of_several_optimizers_is_that_over_all():
    gatherer = StepGatherer(with_grad_norm=True)
    for optimizer in [optimizer_with(0.1, grads=(gradient,)) for gradient in (3.0, 4.0)]:
        gatherer.before_step(optimizer)
    gatherer.end_step(2)
    # a batch in which none has stepped with a gradient has no norm
    gatherer.end_step(3)
    first, second = gatherer.read()
    assert (first.grad_norm, second.grad_norm) == (5.0, None)
