import copy
import multiprocessing
import pickle

from opttune.trainer.spawn_result import SpawnResult


def _leave(handover, *values):
    for value in values:
        handover.leave(value)


def in_another_process(handover, *values):
    process = multiprocessing.get_context("spawn").Process(target=_leave, args=(handover, *values))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_what_another_process_leaves_is_taken_once():
    handover = SpawnResult()
    in_another_process(handover, {"step": 7, "why": "nan"})
    assert handover.take() == {"step": 7, "why": "nan"}
    assert handover.take() is None


def test_the_last_word_counts():
    handover = SpawnResult()
    in_another_process(handover, {"step": 7}, {"step": 9})
    assert handover.take() == {"step": 9}


def test_a_copy_in_the_same_process_has_a_place_of_its_own():
    handover = SpawnResult()
    other = copy.deepcopy(handover)
    in_another_process(other, {"step": 7})
    assert handover.take() is None
    assert other.take() == {"step": 7}


def test_a_pickle_in_the_same_process_hands_nothing_over():
    handover = pickle.loads(pickle.dumps(SpawnResult()))
    handover.leave({"step": 7})
    assert not handover.is_elsewhere
    assert handover.take() is None
