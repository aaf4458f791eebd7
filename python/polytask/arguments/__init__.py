"""What callers say: names and numbers that are checked, and what is said of those that are wrong."""
