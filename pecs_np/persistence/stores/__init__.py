"""Stores of single entities: memory, files and servers."""
