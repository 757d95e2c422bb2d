"""How long and how much is kept: the defaults that the documentation shows."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from edgepose.config.reference import keys
from edgepose.config.retention import KEPT_DAYS, kept_days
from edgepose.config.schema import Config, PrivacyConfig, Profile, RetentionConfig

DOCS = Path(__file__).parents[2] / "docs"


def table() -> str:
    return (DOCS / "operations.md").read_text().partition("<!-- begin retention -->")[2].partition("<!-- end retention -->")[0]


def test_the_table_shows_the_defaults() -> None:
    defaults = {key.path: key.default for key in keys()}
    shown = re.findall(r"`([a-z_.]+)` = (\d+)", table())
    assert len(shown) > 8
    assert {(key, value) for key, value in shown if float(defaults[key]) != float(value)} == set()


def test_every_file_that_is_written_is_in_the_table() -> None:
    written = {key.path for key in keys() if key.file is not None and key.file.role in ("write", "folder")}
    assert {path for path in written if f"`{path}`" not in table()} == set()
    bounds = {key.path for key in keys() if re.search(r"(^retention\.|limit_mb$|keep_minutes$|store_limit$)", key.path)}
    assert {path for path in bounds - {"web.upload_limit_mb", "web.frame_limit_mb"} if f"`{path}`" not in table()} - {
        f"cameras.<name>.{key}" for key in ("frame_limit_mb", "stream_limit_mb")
    } == set()


@pytest.mark.parametrize("profile", KEPT_DAYS)
def test_the_profile_says_how_long_and_another_age_can_be_set(profile: Profile) -> None:
    config = replace(Config(), privacy=PrivacyConfig(profile=profile))
    days = KEPT_DAYS[profile]
    assert kept_days(config) == days
    row = next(line for line in (DOCS / "privacy.md").read_text().splitlines() if line.startswith(f"| `{profile}`"))
    assert f"| {days:g} day" in row
    assert f"{days:g} with " in (DOCS / "operations.md").read_text()
    assert kept_days(replace(config, retention=RetentionConfig(days=3))) == 3
