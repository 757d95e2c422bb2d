"""What `edgepose check` says of the authority that a camera is verified against, without contacting the camera."""

from pathlib import Path

import pytest

from edgepose.config.schema import CameraConfig, Config, MqttConfig
from edgepose.diagnostics.preflight import CheckResult, findings
from testing.servers.certificates import Authority


def finding(source: str, ca_file: Path) -> CheckResult:
    config = Config(cameras={"front": CameraConfig(source=source, ca_file=str(ca_file))}, mqtt=MqttConfig(enabled=False))
    return next(found for found in findings(config) if found.what == "camera front")


@pytest.mark.parametrize("source", ["rtsps://pilot:s3cret@camera/cam", "https://pilot:s3cret@camera/cam"])
def test_an_authority_that_cannot_be_used_is_a_wrong_configuration(tmp_path: Path, source: str) -> None:
    missing = finding(source, tmp_path / "ca.pem")
    assert (missing.good, missing.exit_code) == (False, 78)
    assert missing.detail.endswith(f"{tmp_path / 'ca.pem'} cannot be used as ca_file (No such file or directory)")
    assert "s3cret" not in missing.detail
    (tmp_path / "ca.pem").write_text("no certificate")
    assert finding(source, tmp_path / "ca.pem").detail.endswith("cannot be used as ca_file (it holds no certificate in PEM)")
    assert finding(source, Authority(tmp_path).certificate).good


def test_where_nothing_is_encrypted_it_is_not_asked_for(tmp_path: Path) -> None:
    assert finding("rtsp://camera/cam", tmp_path / "ca.pem").good
