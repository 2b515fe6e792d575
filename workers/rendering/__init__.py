"""PDF pages to images and text, in child processes."""
