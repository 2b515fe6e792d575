"""The words of a page and their boxes: how a text is cut into words, their stored form, and which ones match."""
