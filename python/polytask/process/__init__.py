"""What a process has one of: the handler of Ctrl-C, the global random generators, devices."""
