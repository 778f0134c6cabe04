"""The journal: what is saved before a payment is sent, so that a later attempt knows.

Two kinds outlive the attempt, a SQL database and Airflow's task state store; they may be combined. One kind forgets.
"""

from __future__ import annotations

from airflow_provider_bitrix24.journal.protocol import Busy, Change, Journal, Loaded, NullJournal, Saved

__all__ = ["Busy", "Change", "Journal", "Loaded", "NullJournal", "Saved"]
