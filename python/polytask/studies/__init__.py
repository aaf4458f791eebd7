"""Studies: how tasks are related, what to train together and how, whether that helped, and what a model looks at."""
