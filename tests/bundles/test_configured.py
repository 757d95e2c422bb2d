"""The record of bundles: it is deleted by age, and what stays verifies."""

import json
import time
from pathlib import Path

from edgepose.bundles.configured import AUDIT, BundledConfiguration
from edgepose.storage.chained_lines import verify_lines
from edgepose.storage.span import Span
from testing.bundles import write_keys


def test_lines_of_the_record_that_are_too_old_are_deleted(tmp_path: Path) -> None:
    write_keys(tmp_path / "fleet.pub")
    (tmp_path / "config.yaml").write_text("bundles: {enabled: true, keys_file: fleet.pub, folder: bundles}\n")
    configured = BundledConfiguration(tmp_path / "config.yaml", [])
    configured.start()
    configured.record_start()
    configured.forget(Span())  # before the first line there is no file
    assert not (tmp_path / "bundles" / AUDIT).exists()
    configured.record("received", 1, {})
    configured.record("refused", 1, {}, "it is wrong")
    old = Span(0, time.time_ns())
    time.sleep(0.001)
    configured.record("received", 2, {})
    configured.forget(old)
    configured.record("active", 2, {})
    configured.close()
    assert configured.store is not None
    configured.store.release()
    record = tmp_path / "bundles" / AUDIT
    assert [json.loads(line)["bundle"] for line in record.read_text().splitlines()] == ["2", "2"]
    assert verify_lines(record).problems == []
