"""Students: dense checkpoints of fewer blocks, to be searched as any other model."""
