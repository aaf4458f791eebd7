"""Studies of several networks: how tasks are related, which to train together, and whether that helped."""
