"""What is shown of a page: its image in several sizes, its text, and where on it a query matches."""
