"""One piece of work at a time: the only torch, transformers and Ray. Workers return values and write to no database."""
