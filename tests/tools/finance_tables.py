"""The tables of the database that the example DAGs of finance use."""

FINANCE_TABLES = """
    CREATE TABLE open_items (invoice_id INTEGER PRIMARY KEY, amount TEXT NOT NULL, currency TEXT NOT NULL);
    CREATE TABLE payment_results (
        run_id TEXT, invoice_id INTEGER, status TEXT NOT NULL, amount TEXT, currency TEXT, paid_at TEXT, message TEXT,
        PRIMARY KEY (run_id, invoice_id)
    );
"""
