"""The entity-component system. It knows nothing of files."""
