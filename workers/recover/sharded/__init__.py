"""Training in several processes that share the work, and what they hold."""
