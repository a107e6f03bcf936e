"""A job as the faces need it: made once, and told how far it is."""
