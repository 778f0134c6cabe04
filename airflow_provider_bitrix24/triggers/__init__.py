"""Triggers: poll and report, never write."""
