"""The documentation's own requests, replies and errors of methods that only an application may call."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.portal import Auth
from airflow_provider_bitrix24.sandbox.portal.side_tables import EventHandler, OfflineEvent

from .test_documented_examples import APPLICATION, EXAMPLES, differences

PROCESS = "yh3gu929sf0d32lsfysqas2y1hlpp09q"


class Caller:
    """An application, on behalf of an administrator or of somebody else."""

    def __init__(self, rest: Any, user_id: int) -> None:
        self.portal = rest.portal
        self.application = self.portal.add_application("local.app", "s3cr3t")
        self.pair = self.portal.grant(self.application, user_id)
        self.token = self.pair.access_token
        state = self.portal.state
        handler = "https://www.my-domain.com/handler/"
        for number, event, auth_type in ((1, "ONCRMLEADADD", 15), (2, "ONCRMLEADUPDATE", 0)):
            state.event_handlers[number] = EventHandler(number, "local.app", event, handler, auth_type)
        lead = OfflineEvent(1, "local.app", "ONCRMLEADADD", 1_763_799_000.0, message_id="1", connector="BxTest")
        company = OfflineEvent(2, "local.app", "ONCRMCOMPANYADD", 1_763_799_000.0, message_id="2", process_id=PROCESS)
        state.offline_events.update({1: lead, 2: company})

    def body(self, method: str, params: Any = None) -> dict[str, Any]:
        reply = self.portal.handle(method, params or {}, auth=Auth(), headers={"Authorization": f"Bearer {self.token}"})
        assert isinstance(reply.body, dict)
        return {**reply.body, "status": reply.status}


@pytest.mark.parametrize("method", [*APPLICATION, "app.info"])
def test_request_is_answered_in_the_documented_shape(method: str, make_rest: Any) -> None:
    caller = Caller(make_rest(dialect="docs", operating_limit=480), 1)
    body = caller.body(method, EXAMPLES[method]["request"])
    assert "error" not in body, body
    for success in EXAMPLES[method]["success"]:
        documented = {key: value for key, value in success.items() if key != "time"}
        assert differences(documented, body) == []
    if method == "event.unbind":
        assert body["result"] == {"count": 1}


@pytest.mark.parametrize("method", [method for method in APPLICATION if EXAMPLES[method]["error"]])
def test_documented_error(method: str, make_rest: Any) -> None:
    caller = Caller(make_rest(dialect="docs"), 7)
    params = {**EXAMPLES[method]["request"], "event_type": "offline"}
    documented = EXAMPLES[method]["error"][0]
    if method == "event.bind":
        params["event"] = "ONNOTHING"
    body = caller.body(method, params)
    assert {name: body[name] for name in documented} == documented
    assert body["status"] == (400 if method == "event.bind" else 403)


@pytest.mark.parametrize("method", ["event.bind", "event.unbind"])
def test_documented_refusals_of_people_who_are_no_administrators(method: str, make_rest: Any) -> None:
    caller = Caller(make_rest(dialect="docs"), 7)
    request = EXAMPLES[method]["request"]
    texts = [cell for row in EXAMPLES[method]["error_codes"] for cell in row if cell.startswith("Access denied!")]
    found = [caller.body(method, {**request, **more}) for more in ({"event_type": "offline"}, {"auth_type": 1})]
    assert [body["error_description"] for body in found] == texts
    assert caller.body(method, {**request, "auth_type": 7})["status"] == 200
