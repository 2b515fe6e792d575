"""The capacity model: what an installation needs for a number of pages a day. `pagemill plan` prints it."""
