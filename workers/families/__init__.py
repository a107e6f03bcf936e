"""What kind of model it is: how it is built, its blocks, its inventory."""
