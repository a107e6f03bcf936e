"""The engine that runs plans: held weights, kept outputs, limits of memory."""
