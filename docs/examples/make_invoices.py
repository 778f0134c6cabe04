"""Add invoices to a sandbox portal, and write the CSV file that names them: `make_invoices.py 1000 open_items.csv`."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_provider_bitrix24.api import calls
from airflow_provider_bitrix24.hooks.bitrix24 import Bitrix24Hook

hook = Bitrix24Hook()
if not hook.portal.startswith("127.0.0.1"):
    sys.exit(f"{hook.portal} is no sandbox portal. Nothing was added.")
fields = {
    "ORDER_TOPIC": "Trial",
    "STATUS_ID": "N",
    "PERSON_TYPE_ID": 3,
    "PAY_SYSTEM_ID": 31,
    "PRODUCT_ROWS": [{"PRODUCT_NAME": "Consulting", "PRICE": "150.00", "QUANTITY": 1}],
}
count, path = int(sys.argv[1]), Path(sys.argv[2])
lines = ["invoice_id,expected_amount,expected_currency"]
for start in range(0, count, 50):
    size = min(50, count - start)
    reply = hook.batch({f"invoice_{number}": calls.crm_invoice_add(fields=fields) for number in range(size)})
    lines += [f"{reply.value(f'invoice_{number}')},150.00,EUR" for number in range(size)]
path.write_text("\n".join(lines) + "\n")
