"""Settings of the webhook: where events are posted to, and what they are signed with."""

import base64
import binascii
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from edgepose.config.load import device_name
from edgepose.config.schema import Config
from edgepose.errors import ConfigError

_ENCODED = "whsec_"  # the prefix that Standard Webhooks gives to a secret in Base64
_LEAST_SECRET_BYTES = 16


class WebhookSettings(msgspec.Struct, frozen=True):
    """The settings as values; files are read before anything runs, so that an unusable one is found then.

    Attributes:
        host, port: of the receiver.
        target: path and query of the URL.
        tls: None for http://.
        secret: key of the signature, None where requests are not signed.
        device: name of this device, which each event carries.
        kinds: of events that are posted; empty for all.
        timeout_s: longest duration of a request.
        attempts: requests for one event that the receiver may fail to accept.
        retry_maximum_s: upper bound of the waits between requests.
        store: file that keeps events until the receiver accepts them; None keeps them in memory only.
        queue_limit: most events that wait; the oldest is dropped first.
    """

    host: str
    port: int
    target: str
    tls: ssl.SSLContext | None
    secret: bytes | None
    device: str
    kinds: frozenset[str] = frozenset()
    timeout_s: float = 5.0
    attempts: int = 10
    retry_maximum_s: float = 30.0
    store: Path | None = None
    queue_limit: int = 1000

    @classmethod
    def of(cls, config: Config) -> "WebhookSettings | None":
        """Return the settings of a configuration, None where no events are posted.

        Raises:
            ConfigError: the secret or the CA file cannot be used.
        """
        webhook = config.webhook
        if webhook.url is None:
            return None
        url = urlsplit(webhook.url)
        assert url.hostname is not None  # checked with the configuration
        return cls(
            host=url.hostname,
            port=url.port or (443 if url.scheme == "https" else 80),
            target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            tls=_tls_context(webhook.ca_file) if url.scheme == "https" else None,
            secret=_read_secret(webhook.secret_file) if webhook.secret_file is not None else None,
            device=device_name(config),
            kinds=frozenset(webhook.kinds),
            timeout_s=webhook.timeout_s,
            attempts=webhook.attempts,
            retry_maximum_s=webhook.retry_maximum_s,
            store=Path(webhook.store) if webhook.store is not None else None,
            queue_limit=config.events.store_limit,
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port: what the log shows, since paths of webhooks are often secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls is not None else 'http'}://{host}:{self.port}"


def _read_secret(path: str) -> bytes:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            f"webhook.secret_file: {path} cannot be read: {reason}; expected a readable file with the secret in its first line"
        ) from error
    text = lines[0].strip() if lines else ""
    try:
        secret = base64.b64decode(text.removeprefix(_ENCODED), validate=True) if text.startswith(_ENCODED) else text.encode()
    except binascii.Error as error:
        raise ConfigError(
            f"webhook.secret_file: the first line of {path} is no Base64 after {_ENCODED}; expected a whole secret"
        ) from error
    if len(secret) < _LEAST_SECRET_BYTES:
        raise ConfigError(
            f"webhook.secret_file: the secret in {path} has {len(secret)} bytes; expected at least {_LEAST_SECRET_BYTES} in the first line"
        )
    return secret


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"webhook.ca_file: {ca_file} cannot be used: {reason}; expected a file of PEM certificates") from error
