import io
import random

import numpy as np
import pytest
import torch

from opttune.training.random_state import kept_random_state, read_random_state, set_random_state


def draw():
    return [random.random(), random.gauss(), np.random.rand(), np.random.randn(), torch.rand(1).item()]


def test_all_generators_are_set_back():
    draw()
    state = read_random_state()
    first = draw()
    set_random_state(state)
    assert draw() == first != draw()


def test_a_saved_state_is_loaded_as_plain_values_and_tensors():
    state, file = read_random_state(), io.BytesIO()
    first = draw()
    torch.save(state, file)
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert draw() == first


def test_what_is_drawn_inside_changes_nothing_outside():
    state = read_random_state()
    first = draw()
    set_random_state(state)
    with pytest.raises(ZeroDivisionError), kept_random_state():
        draw()[0] / 0
    assert draw() == first


def test_the_state_of_devices_that_are_not_here_is_left_out():
    state = {**read_random_state(), "cuda": [torch.get_rng_state()] * 99}
    first = draw()
    set_random_state(state)
    assert draw() == first


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_the_generators_of_the_devices_are_set_back():
    torch.rand(1, device="cuda")
    state = read_random_state()
    first = torch.rand(3, device="cuda")
    set_random_state(state)
    assert torch.equal(torch.rand(3, device="cuda"), first)


def test_of_another_number_of_devices_the_current_one_is_set_back(monkeypatch):
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    state = {**read_random_state(), "cuda": ["first", "second"], "device": 1}
    set_random_state(state)
    assert restored == ["second"]
