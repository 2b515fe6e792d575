"""The local stack: the five servers as child processes, and Pagemill's own processes around them."""
