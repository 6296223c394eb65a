"""Behaviours: ordinary single-threaded code that runs inside a process."""
