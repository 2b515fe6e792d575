"""The types of files that are accepted, and how a file's type is found from its content."""
