"""Who holds a job, who is gone, and waiting where the database is away."""
