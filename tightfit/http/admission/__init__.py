"""What is let in: which models, how much of each user, and each request once."""
