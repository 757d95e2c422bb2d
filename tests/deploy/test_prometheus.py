"""The rules, the scrape configuration and every alert, checked with promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
PROMETHEUS = HERE.parents[1] / "deploy" / "prometheus"
RULES = PROMETHEUS / "edgepose.rules.yml"
TESTS = sorted(HERE.glob("*alerts.test.yml"))


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.mark.needs("promtool")
def test_the_scrape_configuration_and_the_rules_are_valid() -> None:
    assert "1 rule files found" in promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.needs("promtool")
def test_every_alert_fires_when_it_shall_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", *map(str, TESTS))


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    cases = [case for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {rule["alert"] for rule in rules()}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_where_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert "{{ $labels.device }}" in rule["annotations"]["summary"]
    assert re.search(r"[.`]$", rule["annotations"]["description"])


def test_the_scraped_port_is_the_daemons_default() -> None:
    from edgepose.config.schema import MonitoringConfig

    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]["targets"]
    assert scraped == [f"{MonitoringConfig().host}:{MonitoringConfig().port}"]
