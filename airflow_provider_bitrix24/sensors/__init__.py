"""Sensors that wait until an invoice or a payment is paid."""
