"""Create or mark at most one payment for each idempotency key."""
