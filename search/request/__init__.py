"""From a user's request to a search space, refused early where it cannot be met."""
