"""What a process is: the only room with threads, locks and a clock."""
