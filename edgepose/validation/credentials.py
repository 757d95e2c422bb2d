"""Credentials that others can see: files that every user can read, and passwords that travel unencrypted."""

import ipaddress
import logging
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from edgepose.config.schema import Config

_log = logging.getLogger(__name__)

_CLEAR_SCHEMES = ("rtsp", "http", "rtmp")
_WITH_PASSWORD = re.compile(r"^[a-z][a-z0-9+.-]*://[^/@]*:[^/@]*@", re.IGNORECASE)


def exposed_credentials(config: Config) -> Iterator[tuple[str, str]]:
    """Yield each key whose credential others can see, with one sentence that holds no secret."""
    mqtt, secrets = config.mqtt, [("webhook.secret_file", config.webhook.secret_file)]
    if mqtt.enabled:
        secrets += [("mqtt.password_file", mqtt.password_file), ("mqtt.tls.key_file", mqtt.tls.key_file)]
    for key, path in secrets:
        if path is not None and (mode := _mode(path)) is not None and mode & stat.S_IROTH:
            yield key, f"{path} can be read by every user of this machine (mode {mode & 0o777:04o}); expected mode 0600"
    if mqtt.enabled:
        away = [host for host in mqtt.hosts if not _is_here(host)]
        if mqtt.password_file is not None and not mqtt.tls.enabled and away:
            yield (
                "mqtt.tls.enabled",
                f"the password of user {mqtt.username} travels unencrypted to {', '.join(away)}; expected true, with a broker that has TLS",
            )
    for name, camera in config.cameras.items():
        if _WITH_PASSWORD.match(camera.source):
            parts = urlsplit(camera.source)
            if parts.scheme in _CLEAR_SCHEMES and parts.hostname is not None and not _is_here(parts.hostname):
                expected = f"expected {parts.scheme}s:// where the camera has it, or a network of its own"
                yield f"cameras.{name}.source", f"the password of the camera travels unencrypted over {parts.scheme}://; {expected}"


class ExposedCredentials:
    """The log's warnings of credentials that others can see, each once."""

    def __init__(self) -> None:
        self._warned: set[tuple[str, str]] = set()

    def warn(self, config: Config) -> None:
        """Log each exposed credential of a configuration that was not logged before."""
        for exposed in sorted(set(exposed_credentials(config)) - self._warned):
            self._warned.add(exposed)
            _log.warning("%s: %s", *exposed)


def _mode(path: str) -> int | None:
    try:
        return Path(path).stat().st_mode
    except OSError:  # reported where the file is read
        return None


def _is_here(host: str) -> bool:
    """Return whether a host is this machine."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
