"""Files: the only room that knows FITS."""
