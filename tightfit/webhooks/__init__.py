"""News of the ends of jobs, sent to addresses that users name."""
