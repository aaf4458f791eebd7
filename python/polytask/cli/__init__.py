"""The command `polytask`: an honest answer for a table, without a line of code."""
