import math

import pytest

from opttune.tracking.delivery import Delivery
from opttune.tracking.operations import Kind, Operation
from opttune.tracking.server import Server


def opening(key, parent=None, reopen=False, experiment="some"):
    data = {"name": f"run {key}", "experiment": experiment, "tags": {"a": "b"}, "parent": parent, "time": 1000}
    return Operation(Kind.OPEN, key, {**data, "reopen": reopen})


def metrics(key, *points):
    return Operation(Kind.METRICS, key, [list(point) for point in points])


def deliver(uri, *operations, attempt=1, are_left=False):
    found = {}
    delivery = Delivery(Server(uri), found.__setitem__)
    delivery.deliver(operations, attempt, are_left=are_left)
    return delivery, found


def history(client, run_id, name):
    return [(point.step, point.value) for point in client.get_metric_history(run_id, name)]


def test_a_run_is_created_once_under_its_parent(uri, client):
    operations = [opening("p"), opening("c", parent="p")]
    _, found = deliver(uri, *operations)
    _, again = deliver(uri, *operations)
    assert again == found
    child = client.get_run(found["c"])
    assert child.data.tags["mlflow.parentRunId"] == found["p"]
    assert child.data.tags["opttune.key"] == "c"
    assert (child.info.run_name, child.info.start_time, child.info.status) == ("run c", 1000, "RUNNING")
    assert len(client.search_runs([child.info.experiment_id])) == 2


@pytest.mark.slow
def test_everything_may_be_delivered_twice(uri, client):
    points = [("loss", 1 / step, step, 7) for step in range(1, 2501)] + [
        ("nan", math.nan, 1, 7),
        ("inf", math.inf, 1, 7),
    ]
    operations = [
        opening("k"),
        metrics("k", *points),
        Operation(Kind.PARAMS, "k", {f"p{i}": str(i) for i in range(120)}),
        Operation(Kind.TAGS, "k", {f"t{i}": str(i) for i in range(120)}),
        Operation(Kind.TEXT, "k", {"text": "hello", "name": "a.txt"}),
        Operation(Kind.END, "k", {"status": "KILLED", "time": 5000}),
    ]
    first, found = deliver(uri, *operations)
    second, _ = deliver(uri, *operations)
    run = client.get_run(found["k"])
    assert history(client, found["k"], "loss") == [(step, 1 / step) for _, _, step, _ in points[:2500]]
    assert len(history(client, found["k"], "nan")) == len(history(client, found["k"], "inf")) == 1
    assert len(run.data.params) == 120
    assert run.data.tags["t119"] == "119"
    assert (run.info.status, run.info.end_time) == ("KILLED", 5000)
    assert (first.refused, second.refused) == (0, 0)


def test_a_later_process_finds_the_run_by_its_key_or_id(uri, client):
    _, found = deliver(uri, opening("k"))
    deliver(uri, metrics("k", ("a", 1.0, 1, 1)))
    deliver(uri, metrics(found["k"], ("a", 2.0, 2, 1)))
    assert history(client, found["k"], "a") == [(1, 1.0), (2, 2.0)]


def test_one_bad_entry_does_not_take_the_others_along(uri, client):
    bad = [("a//b", 1.0, 1, 1)]
    good = [(f"m{i}", 1.0, 1, 1) for i in range(50)]
    delivery, found = deliver(uri, opening("k"), metrics("k", *good[:25], *bad, *good[25:]))
    assert len(client.get_run(found["k"]).data.metrics) == 50
    assert delivery.refused == 1
    assert "a//b" in delivery.refusal


def test_a_metric_name_that_mlflow_does_not_take_is_rewritten(uri, client):
    delivery, found = deliver(uri, opening("k"), metrics("k", ("loss@1#x", 1.0, 1, 1)))
    assert client.get_run(found["k"]).data.metrics == {"loss_1_x": 1.0}
    assert delivery.refused == 0


def test_a_param_of_another_value_is_written_beside_the_first(uri, client):
    _, found = deliver(uri, opening("k"), Operation(Kind.PARAMS, "k", {"lr": "0.1"}))
    delivery, _ = deliver(uri, Operation(Kind.PARAMS, "k", {"lr": "0.2", "beta1": "0.9"}))
    assert client.get_run(found["k"]).data.params == {"lr": "0.1", "opttune/lr": "0.2", "beta1": "0.9"}
    assert delivery.refused == 0


def test_what_belongs_to_no_run_is_refused(uri, client):
    delivery, _ = deliver(uri, metrics("nobody", ("a", 1.0, 1, 1)), Operation(Kind.END, "nobody", {}))
    assert delivery.refused == 2
    assert "nobody" in delivery.refusal


def test_a_malformed_point_is_refused(uri, client):
    delivery, found = deliver(uri, opening("k"), metrics("k", ("a", 1.0)), metrics("k", ("b", "text", 1, 1)))
    assert delivery.refused == 1
    assert list(client.get_run(found["k"]).data.metrics) == ["b"]


def test_a_run_that_was_deleted_meanwhile_is_refused_in_one_go(uri, client):
    delivery, found = deliver(uri, opening("k"))
    client.delete_run(found["k"])
    delivery.deliver([metrics("k", *[("a", 1.0, step, 1) for step in range(100)])])
    assert delivery.refused == 100
    assert "deleted" in delivery.refusal


def test_a_missing_file_is_refused(uri, tmp_path):
    artifact = Operation(Kind.ARTIFACT, "k", {"path": str(tmp_path / "none.png"), "folder": None})
    delivery, _ = deliver(uri, opening("k"), artifact)
    assert delivery.refused == 1


def test_an_artifact_store_that_stays_down_does_not_hold_up_the_rest(uri, client, tmp_path):
    (tmp_path / "mlruns").write_text("a file where the folder should be")
    operations = [
        opening("k"),
        Operation(Kind.TEXT, "k", {"text": "x", "name": "a.txt"}),
        Operation(Kind.END, "k", {"status": "FINISHED", "time": 1}),
    ]
    with pytest.raises(OSError):
        deliver(uri, *operations)
    delivery, found = deliver(uri, *operations, attempt=3)
    assert delivery.refused == 1
    assert client.get_run(found["k"]).info.status == "FINISHED"


def test_files_and_folders_become_artifacts(uri, client, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "a.png").write_bytes(b"x")
    _, found = deliver(
        uri,
        opening("k"),
        Operation(Kind.ARTIFACT, "k", {"path": str(tmp_path / "plots"), "folder": "all"}),
        Operation(Kind.ARTIFACT, "k", {"path": str(tmp_path / "plots" / "a.png"), "folder": None}),
    )
    assert [file.path for file in client.list_artifacts(found["k"])] == ["a.png", "all"]
    assert (tmp_path / "mlruns" / "some" / found["k"] / "artifacts" / "a.png").exists()


def test_reopening_clears_the_end_and_skips_the_steps_that_are_there(uri, client):
    first = [metrics("k", *[("loss", 1.0, step, 1) for step in range(1, 8)], ("seconds", 1.0, 0, 1))]
    end = [Operation(Kind.TAGS, "k", {"opttune.state": "interrupted", "mine": "stays"})]
    end += [Operation(Kind.END, "k", {"status": "KILLED", "time": 1})]
    # taken up again from a checkpoint at step 5
    second = [metrics("k", *[("loss", 2.0, step, 2) for step in range(5, 11)], ("seconds", 2.0, 0, 2))]
    _, found = deliver(uri, opening("k"), *first, *end, Operation(Kind.REOPEN, "k", None), *second)
    run = client.get_run(found["k"])
    assert run.info.status == "RUNNING"
    assert "opttune.state" not in run.data.tags
    assert run.data.tags["mine"] == "stays"
    assert history(client, found["k"], "loss") == [(s, 1.0 if s <= 7 else 2.0) for s in range(1, 11)]
    assert len(history(client, found["k"], "seconds")) == 2


def test_a_deleted_experiment_is_restored(uri, client):
    _, found = deliver(uri, opening("k"))
    client.delete_experiment(client.get_run(found["k"]).info.experiment_id)
    _, found = deliver(uri, opening("other"))
    assert client.get_experiment_by_name("some").lifecycle_stage == "active"


def test_long_texts_are_cut(uri, client):
    _, found = deliver(
        uri, opening("k"), Operation(Kind.PARAMS, "k", {"p": "x" * 9999}), Operation(Kind.TAGS, "k", {"t": "x" * 9999})
    )
    data = client.get_run(found["k"]).data
    assert (len(data.params["p"]), len(data.tags["t"])) == (6000, 8000)


def test_what_a_killed_process_left_does_not_repeat_steps_that_are_there(uri, client):
    _, found = deliver(uri, opening("k"), metrics("k", *[("loss", 1.0, step, 1) for step in range(1, 8)]))
    # taken up again at step 5 by a process that was killed, and that had reopened the run before
    deliver(uri, metrics("k", *[("loss", 2.0, step, 2) for step in range(5, 11)]), are_left=True)
    assert history(client, found["k"], "loss") == [(s, 1.0 if s <= 7 else 2.0) for s in range(1, 11)]
