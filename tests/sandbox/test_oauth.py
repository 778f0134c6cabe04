"""OAuth in process: who is let in, what the token endpoint answers and refuses, and when tokens die."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_bitrix24.sandbox.portal import Auth

START = 1_763_800_000.0
HOUR = 3600
DAY = 24 * HOUR
URL = "http://127.0.0.1:8024"


# -- signing in -------------------------------------------------------------------------------------------------------


def test_code_becomes_the_first_pair(client: Any) -> None:
    code = client.portal.sign_in(client.application, 1)
    answer = client.token(grant_type="authorization_code", code=code).body
    assert isinstance(answer, dict)
    assert answer | {"access_token": "", "refresh_token": ""} == {
        "access_token": "",
        "refresh_token": "",
        "client_endpoint": f"{URL}/rest/",
        "server_endpoint": f"{URL}/rest/",
        "domain": "127.0.0.1:8024",
        "expires_in": 3600,
        "member_id": client.portal.oauth.member_id,
        "scope": "crm,sale,pay_system,salescenter",
        "status": "L",
    }
    assert client.result("profile", answer["access_token"])["ID"] == "1"


def test_code_works_once(client: Any) -> None:
    code = client.portal.sign_in(client.application)
    assert client.token(grant_type="authorization_code", code=code).status == 200
    assert client.refused(client.token(grant_type="authorization_code", code=code)) == (400, "invalid_grant")


@pytest.mark.parametrize(("seconds", "status"), [(29.9, 200), (30, 400)])
def test_code_lives_30_seconds(client: Any, seconds: float, status: int) -> None:
    code = client.portal.sign_in(client.application)
    client.clock.advance(seconds)
    assert client.token(grant_type="authorization_code", code=code).status == status


def test_only_people_of_the_portal_can_sign_in(client: Any) -> None:
    with pytest.raises(ValueError, match="no user 99"):
        client.portal.sign_in(client.application, 99)
    with pytest.raises(ValueError, match="no user 99"):
        client.portal.grant(client.application, 99)


# -- refreshing -------------------------------------------------------------------------------------------------------


def test_refresh_rotates_both_tokens(client: Any) -> None:
    answer = client.refresh().body
    assert isinstance(answer, dict)
    assert not {answer["access_token"], answer["refresh_token"]} & {client.pair.access_token, client.pair.refresh_token}
    assert (answer["expires"], answer["expires_in"], answer["user_id"]) == (int(START) + HOUR, HOUR, 7)
    assert client.result("profile", answer["access_token"])["ID"] == "7"


def test_refresh_token_works_once_and_its_successor_goes_on(client: Any) -> None:
    first = client.refresh().body
    assert isinstance(first, dict)
    assert client.refused(client.refresh()) == (400, "invalid_grant")
    assert client.refresh(first["refresh_token"]).status == 200


def test_old_access_token_lives_on_until_its_expiry(client: Any) -> None:
    client.clock.advance(HOUR - 1)
    client.refresh()
    assert client.result("profile", client.pair.access_token)["ID"] == "7"
    client.clock.advance(1)
    assert client.result("profile", client.pair.access_token) == "expired_token"


@pytest.mark.parametrize(("seconds", "status"), [(180 * DAY - 1, 200), (180 * DAY, 400)])
def test_refresh_token_lives_180_days_and_each_refresh_starts_them_anew(
    client: Any, seconds: float, status: int
) -> None:
    client.clock.advance(100 * DAY)
    second = client.refresh().body
    assert isinstance(second, dict)
    client.clock.advance(seconds)
    assert client.refresh(second["refresh_token"]).status == status


def test_lifetimes_of_an_application(client: Any) -> None:
    quick = client.portal.add_application(access_token_lifetime=2.5, refresh_token_lifetime=10)
    pair = client.portal.grant(quick)
    client.clock.advance(2.4)
    assert client.result("profile", pair.access_token)["ID"] == "1"
    client.clock.advance(0.1)
    assert client.result("profile", pair.access_token) == "expired_token"
    given = {"client_id": quick.client_id, "client_secret": quick.client_secret}
    fresh = client.refresh(pair.refresh_token, **given).body
    assert isinstance(fresh, dict)
    assert fresh["expires_in"] == 2
    client.clock.advance(10)
    assert client.refused(client.refresh(fresh["refresh_token"], **given)) == (400, "invalid_grant")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"grant_type": None}, (400, "invalid_request")),
        ({"grant_type": "password"}, (400, "invalid_request")),
        ({"grant_type": ["refresh_token"]}, (400, "invalid_request")),
        ({"client_id": None}, (400, "invalid_request")),
        ({"client_secret": ""}, (400, "invalid_request")),
        ({"refresh_token": None}, (400, "invalid_request")),
        ({"client_id": "local.other"}, (401, "invalid_client")),
        ({"client_secret": "s3cr3t-of-the-clienT"}, (401, "invalid_client")),
        ({"refresh_token": "made-up"}, (400, "invalid_grant")),
        ({"scope": "crm,tasks"}, (400, "invalid_scope")),
        ({"grant_type": "authorization_code"}, (400, "invalid_request")),
        ({"grant_type": "authorization_code", "code": "made-up"}, (400, "invalid_grant")),
    ],
    ids=str,
)
def test_refusals_cost_nothing(client: Any, params: dict[str, Any], expected: tuple[int, str]) -> None:
    given = {"grant_type": "refresh_token", "refresh_token": client.pair.refresh_token, **params}
    assert client.refused(client.token(**given)) == expected
    assert client.portal.tokens_log[-1]["event"] == "refused"
    assert client.portal.tokens_log[-1]["error"] == expected[1]
    assert client.refresh(scope="crm").status == 200


def test_tokens_of_another_application(client: Any) -> None:
    client.portal.add_application("local.other", "other")
    thief = {"client_id": "local.other", "client_secret": "other"}
    code = client.portal.sign_in(client.application)
    assert client.refused(client.refresh(**thief)) == (200, "WRONG_CLIENT")
    assert client.refused(client.token(grant_type="authorization_code", code=code, **thief)) == (200, "WRONG_CLIENT")
    assert client.refresh().status == 200
    assert client.token(grant_type="authorization_code", code=code).status == 200


def test_subscription_that_has_ended(client: Any) -> None:
    client.portal.state.options["subscription"] = False
    assert client.refused(client.refresh()) == (400, "PAYMENT_REQUIRED")
    assert client.result("profile", client.pair.access_token) == "ACCESS_DENIED"


def test_application_that_is_removed(client: Any) -> None:
    client.portal.act.remove_application("local.app")
    assert client.refused(client.refresh()) == (401, "invalid_client")
    assert client.result("profile", client.pair.access_token) == "APPLICATION_NOT_FOUND"


def test_consent_that_is_withdrawn(client: Any) -> None:
    other = client.portal.grant(client.application, 1)
    client.portal.act.revoke_grants(user_id=7)
    assert client.refused(client.refresh()) == (400, "invalid_grant")
    assert client.result("profile", client.pair.access_token) == "invalid_token"
    assert client.result("profile", other.access_token)["ID"] == "1"
    client.portal.revoke_grants("local.app")
    assert client.result("profile", other.access_token) == "invalid_token"
    assert client.events() == ["issued", "issued", "revoked", "refused", "revoked"]


# -- calling ----------------------------------------------------------------------------------------------------------


def test_acts_as_the_person_who_signed_in(client: Any) -> None:
    assert client.result("profile", client.pair.access_token)["NAME"] == "Ivo"
    client.result("crm.item.payment.pay", client.pair.access_token, id=1001)
    assert [(entry["user_id"], entry["by"]) for entry in client.portal.ledger] == [(7, "rest")]
    assert client.portal.requests[-1]["token"] == client.pair.number


@pytest.mark.parametrize("name", ["auth", "access_token"])
def test_token_in_the_parameters(client: Any, name: str) -> None:
    assert client.result("profile", **{name: client.pair.access_token})["ID"] == "7"


@pytest.mark.parametrize("name", ["auth", "access_token"])
def test_bearer_takes_precedence(client: Any, name: str) -> None:
    anna = client.portal.grant(client.application, 1)
    assert client.result("profile", anna.access_token, **{name: client.pair.access_token})["ID"] == "1"
    assert client.result("profile", "wrong", **{name: client.pair.access_token}) == "invalid_token"


@pytest.mark.parametrize("header", ["bearer {}", "BEARER   {}"])
def test_bearer_in_any_case(client: Any, header: str) -> None:
    reply = client.call("profile", headers={"Authorization": header.format(client.pair.access_token)})
    assert reply.status == 200


@pytest.mark.parametrize("header", ["Basic {}", "Bearer", "Bearer ", "{}"])
def test_no_bearer(client: Any, header: str) -> None:
    reply = client.call("profile", headers={"Authorization": header.format(client.pair.access_token)})
    assert (reply.status, reply.body["error"]) == (401, "NO_AUTH_FOUND")


def test_refresh_token_opens_no_method(client: Any) -> None:
    reply = client.call("profile", client.pair.refresh_token)
    assert (reply.status, client.refused(reply)[1]) == (401, "invalid_token")


def test_scopes_are_the_applications(client: Any) -> None:
    small = client.portal.add_application(scopes=["crm"])
    token = client.portal.grant(small).access_token
    assert client.result("scope", token) == ["crm"]
    assert client.result("crm.item.payment.get", token, id=1001)["id"] == 1001
    assert client.result("sale.payment.get", token, id=1001) == "insufficient_scope"


def test_app_info_needs_an_application(client: Any) -> None:
    info = client.result("app.info", client.pair.access_token)
    assert (info["CODE"], info["STATUS"], info["INSTALLED"]) == ("local.app", "L", True)
    webhook = client.portal.webhook
    refusal = client.portal.handle("app.info", {}, auth=Auth(webhook.user_id, webhook.secret))
    assert refusal.body["error"] == "ACCESS_DENIED"


def test_person_who_was_dismissed(client: Any) -> None:
    client.portal.state.users[7].active = False
    assert client.result("profile", client.pair.access_token) == "authorization_error"


def test_https_is_required_of_webhooks_alone(make_client: Any) -> None:
    client = make_client(require_https=True)
    headers = {"authorization": f"Bearer {client.pair.access_token}"}
    assert client.portal.handle("profile", {}, auth=Auth(secure=False), headers=headers).status == 200
    webhook = client.portal.webhook
    plain = client.portal.handle("profile", {}, auth=Auth(1, webhook.secret, secure=False), headers=headers)
    assert plain.body["error"] == "INVALID_REQUEST"


def test_operating_time_is_counted_per_application(make_client: Any) -> None:
    client = make_client(operating_limit=0.3)
    replies = [client.result("crm.deal.get", client.pair.access_token, id=1) for _ in range(3)]
    assert replies[2] == "OPERATION_TIME_LIMIT"
    other = client.portal.grant(client.portal.add_application())
    assert client.result("crm.deal.get", other.access_token, id=1)["ID"] == "1"
    # another person's tokens of the same application share its time
    assert client.result("crm.deal.get", client.portal.grant(client.application).access_token, id=1) == (
        "OPERATION_TIME_LIMIT"
    )


@pytest.mark.parametrize("dialect", ["source", "docs"])
def test_expired_token_looks_the_same_by_time_by_hand_and_by_fault(make_client: Any, dialect: str) -> None:
    replies = []
    for way in ("time", "hand", "fault"):
        client = make_client(dialect=dialect)
        if way == "time":
            client.clock.advance(HOUR)
        elif way == "hand":
            client.portal.act.expire_access_tokens()
        else:
            client.portal.faults.add(kind="expired_token", method="crm.item.payment.pay", occurrence=1)
        reply = client.call("crm.item.payment.pay", client.pair.access_token, id=1001)
        assert client.portal.ledger == []
        assert client.events() == ["issued", "expired"]
        # and so it stays until somebody refreshes
        assert client.result("profile", client.pair.access_token) == "expired_token"
        fresh = client.refresh().body
        assert client.result("crm.item.payment.pay", fresh["access_token"], id=1001) is True
        assert client.events() == ["issued", "expired", "refreshed"]
        replies.append((reply.status, reply.body))
    expected = {"error": "expired_token", "error_description": "The access token provided has expired."}
    assert replies == [(401, expected)] * 3


def test_expiry_by_hand_of_one_application(client: Any) -> None:
    other = client.portal.grant(client.portal.add_application())
    client.portal.expire_access_tokens("local.app")
    assert client.result("profile", client.pair.access_token) == "expired_token"
    assert client.result("profile", other.access_token)["ID"] == "1"


def test_token_that_expires_does_not_break_a_running_batch(client: Any) -> None:
    fault = client.portal.faults.add(kind="hold", method="crm.item.payment.pay")
    commands = {"a": "crm.item.payment.pay?id=1001", "b": "profile"}
    reply = client.call("batch", client.pair.access_token, cmd=commands)
    client.clock.advance(2 * HOUR)
    client.portal.faults.release(fault)
    assert reply.held is not None
    answer = reply.held.reply.body["result"]
    assert (answer["result"]["a"], answer["result"]["b"]["ID"], answer["result_error"]) == (True, "7", [])
    assert client.result("batch", client.pair.access_token, cmd=commands) == "expired_token"
