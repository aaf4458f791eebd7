"""A network with its inputs and tasks: built, asked, looked into, kept in files, taken over from another."""
