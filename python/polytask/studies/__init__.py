"""Studies of several networks: how tasks are related, which to train together, whether that helped, and which settings are best."""
