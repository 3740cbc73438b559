"""From restored tiles to stores, catalogues and pictures."""
