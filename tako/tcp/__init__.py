"""A connection from its first byte to its last, whichever end of it is ours."""
