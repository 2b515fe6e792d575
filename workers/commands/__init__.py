"""The commands of `pagemill`, a module each."""
