"""A task's own part, with the calls of Ray replaced by plain ones; on a real cluster it is run in test_ray.py."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from opttune.engines.ray_task import Mailbox, _Sender, _with_reachable_paths, _written
from opttune.training.attempt import Attempt


class Remote:
    """An actor whose calls are done at once."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.put = self
        self.remote = mailbox.put


def get(reference: Any) -> Any:
    return reference


def test_messages_arrive_in_order_and_all_of_them_before_the_end() -> None:
    mailbox = Mailbox()
    sender = _Sender(4, Remote(mailbox), get)
    with sender.sending():
        for number in range(100):
            sender.write(f'{{"metrics": [{number}, {{}}]}}\n')
    taken = mailbox.take()

    assert [message["metrics"][0] for _, message in taken] == list(range(100))
    assert {job for job, _ in taken} == {4}
    assert mailbox.take() == []


def test_the_word_to_stop_comes_back_with_what_is_sent() -> None:
    mailbox = Mailbox()
    sender = _Sender(4, Remote(mailbox), get)
    mailbox.stop()
    with sender.sending():
        pass

    assert sender.switch.stop_requested


def test_where_the_folder_is_seen_files_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "shared").touch()
    attempt = Attempt(None, "val_loss", 0, checkpoint=tmp_path / "a.ckpt")
    with _with_reachable_paths(attempt, tmp_path, [], get) as placed:
        assert placed is attempt
        assert _written(attempt, placed) == {}


def test_where_it_is_not_seen_states_come_and_go_as_bytes(tmp_path: Path) -> None:
    attempt = Attempt(
        None, "val_loss", 0, checkpoint=tmp_path / "a", stop_checkpoint=tmp_path / "b", resume_from=tmp_path / "c"
    )
    with ExitStack() as stack:
        placed = stack.enter_context(_with_reachable_paths(attempt, tmp_path / "unseen", [b"before"], get))
        assert placed.resume_from is not None
        assert placed.checkpoint is not None
        assert placed.resume_from.read_bytes() == b"before"
        placed.checkpoint.write_bytes(b"after")
        written = _written(attempt, placed)
        folder = placed.checkpoint.parent

    assert written == {"checkpoint": b"after"}
    assert replace(placed, checkpoint=None, stop_checkpoint=None, resume_from=None) == Attempt(None, "val_loss", 0)
    assert not folder.exists()
