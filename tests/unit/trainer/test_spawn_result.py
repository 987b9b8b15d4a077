import copy
import multiprocessing
import pickle

from opttune.trainer.spawn_result import SpawnResult


def _leave(result, *values):
    for value in values:
        result.leave(value)


def in_another_process(result, *values):
    process = multiprocessing.get_context("spawn").Process(target=_leave, args=(result, *values))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_what_another_process_leaves_is_taken_once():
    result = SpawnResult()
    in_another_process(result, {"step": 7, "why": "nan"})
    assert result.take() == {"step": 7, "why": "nan"}
    assert result.take() is None


def test_the_last_values_count():
    result = SpawnResult()
    in_another_process(result, {"step": 7}, {"step": 9})
    assert result.take() == {"step": 9}


def test_a_copy_in_the_same_process_has_its_own_file():
    result = SpawnResult()
    other = copy.deepcopy(result)
    in_another_process(other, {"step": 7})
    assert result.take() is None
    assert other.take() == {"step": 7}


def test_a_pickle_in_the_same_process_leaves_nothing():
    result = pickle.loads(pickle.dumps(SpawnResult()))
    result.leave({"step": 7})
    assert not result.is_elsewhere
    assert result.take() is None
