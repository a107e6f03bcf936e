"""What is done with a chosen point of a front: asked for, claimed, run."""
