"""Stack: the engine. Knows arrays, neither FITS nor physics."""
