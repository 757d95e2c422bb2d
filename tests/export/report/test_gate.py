import pytest

from edgepose_export.report.gate import DropGate


@pytest.mark.parametrize(("max_drop", "failed"), [(None, []), (0.0, ["b"]), (0.02, []), (0.0199, ["b"])])
def test_a_loss_above_the_limit_fails(max_drop: float | None, failed: list[str]) -> None:
    gate = DropGate.compare({"a": 0.5, "b": 0.48, "c": 0.6}, max_drop)
    assert gate.drops == {"b": 0.02, "c": -0.1}
    assert [line.split()[0] for line in gate.failures] == failed
    assert gate.to_json()["passed"] is (None if max_drop is None else not failed)


def test_one_model_has_nothing_to_lose() -> None:
    assert DropGate.compare({"a": 0.5}, 0.0).failures == []
