"""What `edgepose check` reports on the CA file of a camera, without contacting the camera."""

from pathlib import Path

import pytest

from edgepose.config.schema import CameraConfig, Config, MqttConfig
from edgepose.diagnostics.preflight import CheckResult, preflight_checks
from testing.servers.certificates import Authority


def check(source: str, ca_file: Path) -> CheckResult:
    config = Config(cameras={"front": CameraConfig(source=source, ca_file=str(ca_file))}, mqtt=MqttConfig(enabled=False))
    return next(result for result in preflight_checks(config) if result.what == "camera front")


@pytest.mark.parametrize("source", ["rtsps://pilot:s3cret@camera/cam", "https://pilot:s3cret@camera/cam"])
def test_an_unusable_ca_file_is_a_configuration_error(tmp_path: Path, source: str) -> None:
    missing = check(source, tmp_path / "ca.pem")
    assert (missing.good, missing.exit_code) == (False, 78)
    assert missing.detail.endswith(f"{tmp_path / 'ca.pem'} cannot be used as ca_file (No such file or directory)")
    assert "s3cret" not in missing.detail
    (tmp_path / "ca.pem").write_text("no certificate")
    assert check(source, tmp_path / "ca.pem").detail.endswith("cannot be used as ca_file (it holds no certificate in PEM)")
    assert check(source, Authority(tmp_path).certificate).good


def test_without_encryption_the_ca_file_is_not_checked(tmp_path: Path) -> None:
    assert check("rtsp://camera/cam", tmp_path / "ca.pem").good
