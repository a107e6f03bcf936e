"""Processes of ours: kept alive, ended with who started them, and what errors that nobody foresaw leave."""
