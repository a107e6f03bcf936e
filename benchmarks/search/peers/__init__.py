"""The peers of the allocation league: one file per method, each with `run(arena, budgets, seed)`."""
