"""Assets: what on a portal a DAG can produce, or be started by."""
