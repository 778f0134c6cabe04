"""What the cases are about: the calls that move money, what tasks ask for, and how it has to look in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.e2e.crash.runs import Run
    from tests.e2e.crash.stage import Scene

ADD = "crm.item.payment.add"
FILL = "crm.item.payment.product.add"
MARK_INVOICE = "sale.paysystem.pay.invoice"
MARK_PAYMENT = "crm.item.payment.pay"
DEAL: dict[str, Any] = {"entity_id": 1, "entity_type_id": "deal"}
SQL = DEAL | {"journal_conn_id": "journal", "idempotency_key": "order-4711-deposit"}
INVOICE: dict[str, Any] = {"invoice_id": 2, "pay_system_id": 31, "expected_amount": "1500.00"}


def stays(scene: Scene, run: Run, *, other_runs: bool) -> None:
    """Clear the green task, and trigger a run with the same key: both return the same payment, nothing is sent."""
    first = run.receipt
    run.clear()
    receipts = [run.succeeds()]
    if other_runs:
        receipts.append(scene.start().succeeds())
    for receipt in receipts:
        assert (receipt["outcome"], receipt["recovered"]) == ("existing", True)
        assert receipt["payment_id"] == first["payment_id"]
    scene.only_effect(first)


def filled_once(scene: Scene, receipt: dict[str, Any]) -> None:
    """Each row of the deal is in the payment once, with its whole quantity."""
    payment = scene.portal.payment(receipt["payment_id"])
    assert [int(item["quantity"]) for item in payment["items"]] == [2, 1]
    assert len({item["target_id"] for item in payment["items"]}) == 2
    assert (payment["sum"], receipt["amount"]) == ("1020.00", "1020.00")


def one_payment(scene: Scene, first: Run, second: Run) -> None:
    """Both runs are green and return the same payment, which one of them has made."""
    receipts = [first.succeeds(), second.succeeds()]
    entry = scene.only_effect(receipts[0])
    assert [receipt["payment_id"] for receipt in receipts] == [entry["payment_id"]] * 2
