"""What packed values stand for, and how they are unpacked."""
