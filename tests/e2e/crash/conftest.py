"""At the end of a run: nothing is left running, and a table says what was done and the outcome."""

from tests.e2e.crash.stage import pytest_configure, pytest_terminal_summary

__all__ = ["pytest_configure", "pytest_terminal_summary"]
