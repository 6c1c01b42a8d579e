"""The JSON format: the same world as text that people read, compare and edit."""
