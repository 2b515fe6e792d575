"""Tasks, shared calls, time budgets and fair turns: what asyncio does not give ready-made."""
