"""Links from a task to its object in Bitrix24."""
