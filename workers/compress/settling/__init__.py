"""What follows error feedback: codes are chosen once more, scales fitted to them."""
