"""Measures of how tasks are related, a file each."""
