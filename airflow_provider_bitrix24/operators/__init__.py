"""Operators that make payments or mark them as paid."""
