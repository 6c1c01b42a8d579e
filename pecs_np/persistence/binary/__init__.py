"""The PECS binary format: header, registry, columns, footer."""
