"""Where jobs are, for a face that shows them: a home on this machine, or a service."""
