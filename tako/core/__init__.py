"""What both wires stand on: the seams, credit, deadlines; no I/O, no clock."""
