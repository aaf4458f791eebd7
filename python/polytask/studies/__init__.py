"""Studies of several networks: how tasks are related, what to train together and how, and whether that helped."""
