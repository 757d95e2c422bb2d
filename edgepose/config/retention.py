"""How long what is stored about people is kept."""

from edgepose.config.schema import Config, Profile

KEPT_DAYS: dict[Profile, float] = {"full": 30.0, "standard": 7.0, "minimal": 1.0}
"""Where `retention.days` is not set, by `privacy.profile`."""

DAY_NS = 86_400_000_000_000


def kept_days(config: Config) -> float:
    """Return the days after which what is stored about people is deleted."""
    return KEPT_DAYS[config.privacy.profile] if config.retention.days is None else config.retention.days
