"""``salescenter.payment.getPublicUrl``: the address where a customer pays, with a cache that mixes payments up."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from airflow_provider_bitrix24.sandbox.portal import php
from airflow_provider_bitrix24.sandbox.portal.envelope import RestError
from airflow_provider_bitrix24.sandbox.portal.registry import Call, rest

#: A PNG of one white pixel, in place of the code.
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63f80f00010101001bb6ee56"
    "0000000049454e44ae426082"
)


@rest("salescenter.payment.getPublicUrl", scope="salescenter")
def get_public_url(call: Call, id: int, options: dict[str, Any] | None = None) -> object:
    """The address of a payment. One PHP process remembers one address per order, whatever payment is asked for next."""
    payment = call.state.payments.get(id)
    if payment is None:
        raise RestError(200640400001, "payment is not exists")
    if not call.state.options["phone_confirmed"]:
        return {"connectedSiteId": 10, "isPhoneConfirmed": False}
    if not call.state.options["public_url_available"]:
        raise RestError(0, "Public url is not available")
    cache = call.process.setdefault("public_url", {})
    if payment.order_id not in cache:
        access = hashlib.sha256(f"order {payment.order_id}".encode()).hexdigest()[:32]
        query = f"orderId={payment.order_id}&access={access}&paymentId={payment.id}"
        short = hashlib.sha256(query.encode()).hexdigest()[:5]
        cache[payment.order_id] = {
            "url": f"http://portal.invalid/pub/site/10/checkout/?{query}",
            "shortUrl": f"http://portal.invalid/~{short}",
        }
    shown = dict(cache[payment.order_id])
    if php.truthy((options or {}).get("qr", True)):
        shown["qr"] = base64.b64encode(_PIXEL).decode()
    return {"payment": shown}
