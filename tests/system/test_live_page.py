"""The live page under the shipped unit: it starts inside its fences, tells its first link to root alone, and keeps what is drawn."""

import time
from types import SimpleNamespace
from typing import cast

import pytest

from edgepose.web.accounts.one_time_codes import STEP_S, code_at
from testing.servers.web_page import PASSWORD, WebClient, WebPage
from testing.system.service import Service
from testing.waiting import wait_for

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("service"), pytest.mark.needs("web")]


def test_root_gets_the_link_and_areas_are_kept(service: Service) -> None:
    service.configure(more="web: {enabled: true, live_port: 0}")
    service.started()
    folder = "/var/lib/edgepose/web"
    url = wait_for(lambda: service.machine.run("cat", f"{folder}/address", check=False).stdout.strip(), within_s=30)
    link = service.machine.shell("/opt/edgepose/current/bin/edgepose accounts setup --set web.folder=" + folder).strip().rpartition("#")[2]
    assert link not in service.journal()
    page = SimpleNamespace(url=url, host="127.0.0.1", port=url.rpartition(":")[2])
    client = WebClient(cast("WebPage", page))
    assert client.call("GET", "/api/v1/live").status == 503
    secret = client.call("POST", "/api/v1/setup/begin", {"link": link}).json["secret"]
    order = {"link": link, "name": "anna", "password": PASSWORD, "code": code_at(secret, int(time.time() // STEP_S))}
    assert client.call("POST", "/api/v1/setup/finish", order).status == 200
    zone = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]
    applied = client.call("PUT", "/api/v1/live/cameras/front/areas", {"zones": {"yard": zone}})
    assert applied.status == 200, applied
    service.machine.run("systemctl", "restart", "edgepose")
    wait_for(lambda: [event for event in service.on("cameras/front/events") if event.get("zone") == "yard"], within_s=60)
    assert service.machine.shell(f"stat -c %a {folder}/live/areas.yaml").strip() == "600"
