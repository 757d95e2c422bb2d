"""The webhook of a daemon: there or not, and exchanged while the daemon runs."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepose.webhook.sender import WebhookSender, WebhookStats
    from edgepose.webhook.settings import WebhookSettings

_EXCHANGE_S = 1.0  # for events under way when the webhook changes


class ExchangeableWebhook:
    """A sender of events; none where none is configured.

    Attributes:
        sender: in use; None where there is none.
    """

    def __init__(self, settings: "WebhookSettings | None") -> None:
        self.sender = _sender(settings)

    def start(self) -> None:
        """Start the sender."""
        if self.sender is not None:
            self.sender.start()

    def stats(self) -> "WebhookStats | None":
        """Return the counts of this moment."""
        return None if self.sender is None else self.sender.stats()

    def exchange(self, settings: "WebhookSettings | None") -> None:
        """Continue with another sender, or none; what the former one keeps on disk is the new one's if both have one file."""
        before, counts = self.sender, self.stats()
        if before is not None:
            before.close(_EXCHANGE_S)
        self.sender = _sender(settings, counts)
        self.start()

    def closing(self, within_s: float) -> threading.Thread:
        """Close the sender in the thread that is returned, which has started."""
        thread = threading.Thread(target=self._close, args=(within_s,), name="webhook-closing", daemon=True)
        thread.start()
        return thread

    def _close(self, within_s: float) -> None:
        if self.sender is not None:
            self.sender.close(within_s)


def _sender(settings: "WebhookSettings | None", before: "WebhookStats | None" = None) -> "WebhookSender | None":
    """Return a sender, None where no events are posted; only then it is loaded."""
    if settings is None:
        return None
    from edgepose.webhook.sender import WebhookSender

    return WebhookSender(settings, before)
