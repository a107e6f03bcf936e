"""What the service costs: many jobs, many clients, memory."""
